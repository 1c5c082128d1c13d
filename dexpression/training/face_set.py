"""Labelled faces, decoded: those of one source, and what of the source is not used."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple

from PIL import Image

from dexpression.errors import DataError
from dexpression.files import printable
from dexpression.labels import LABELS_READING, PEOPLE_READING, ReadingName, find_label, sort_labels, to_label

Split = Literal["train", "valid", "test"]
CropDetect = Literal["auto", "always", "never"]  # how the face of a labelled picture is found; see `FaceCropper`
Votes = dict[str, int]  # the number of votes for each FER+ column

SPLITS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "publictest": "valid",
    "test": "test",
    "testing": "test",
    "privatetest": "test",
}

MAX_NAMES = 5  # files that a report names for each reason


@dataclass(frozen=True)
class Face:
    """One labelled face, decoded: grey and square."""

    name: str  # the file below the folder, or "row 12"
    label: str
    split: Split | None
    image: Image.Image
    path: Path | None = None  # None for a row of a CSV file
    votes: Votes | None = None

    @property
    def row(self) -> int | None:
        """The row in fer2013.csv, read from the name (`00012.png`, `fer0000012.png`, `row 12`); None if it has none."""
        digits = re.fullmatch(r"(?:fer|row )?(\d+)", Path(self.name).stem)
        return int(digits[1]) if digits else None

    @property
    def majority(self) -> str | None:
        """The FER+ majority vote (Barsoum et al. 2016); None if there is none, or if it is not for one of our labels.

        Of the votes for each answer, a single one does not count. More than half of the others agree.
        """
        votes = {column: count for column, count in (self.votes or {}).items() if count > 1}
        return next((find_label(column) for column, count in votes.items() if 2 * count > sum(votes.values())), None)

    def with_truth(self, reading: ReadingName) -> Face:
        """The face with what this reading follows as its label: "" if the votes have no majority."""
        return self if reading == LABELS_READING else replace(self, label=self.majority or "")

    def __fspath__(self) -> str:  # fastai's ImageClassifierCleaner opens faces as paths
        if self.path is None:
            raise DataError(f"{self.name} is a row of a CSV file and has no picture file.")
        return str(self.path)


class Remark(NamedTuple):
    """Why a file, folder or row is not used, or what about it is doubtful."""

    name: str
    reason: str


@dataclass(frozen=True)
class FaceSet:
    """The faces of one source, what of it is left out, and the pictures whose face is uncertain."""

    name: str
    faces: Sequence[Face]
    left_out: Sequence[Remark] = ()
    uncertain: Sequence[Remark] = ()
    labels_of_folders: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.faces:
            skipped = f" {self._list('left out', self.left_out)[0]}." if self.left_out else ""
            raise DataError(
                f"No faces in {self.name}.{skipped} Expected one folder per class (happy/, sad/, ...), such folders "
                "below train/, valid/ or test/, or fer2013.csv."
            )

    def of_split(self, split: Split) -> FaceSet:
        """Keep the faces of one split."""
        return replace(self, faces=[face for face in self.faces if face.split == split])

    def of_labels(self, labels: Iterable[str]) -> FaceSet:
        """Keep the faces that have one of these labels; the others are left out."""
        wanted = set(labels)
        others = [face for face in self.faces if face.label not in wanted]
        return replace(
            self,
            faces=[face for face in self.faces if face.label in wanted],
            left_out=[*self.left_out, *(Remark(face.name, f"{face.label} is not a chosen label") for face in others)],
        )

    def by_majority(self) -> FaceSet:
        """Keep the faces with a FER+ majority vote for one of our labels, and label them by it."""
        seen = [face.with_truth(PEOPLE_READING) for face in self.faces]
        return replace(self, faces=[face for face in seen if face.label])

    def splits(self) -> set[Split | None]:
        """The splits that occur; None stands for faces without a split."""
        return {face.split for face in self.faces}

    def labels(self) -> list[str]:
        """The labels that occur, in our order."""
        return sort_labels({face.label for face in self.faces})

    def report(self) -> str:
        """Say in a few lines how many faces were read, what folders were taken for, and what was left out and why."""
        splits = Counter(face.split or "unsplit" for face in self.faces)
        counts = ", ".join(f"{count} {split}" for split, count in splits.items())
        lines = [f"{printable(self.name)}: {len(self.faces)} faces ({counts})"]
        renamed = {name: label for name, label in self.labels_of_folders.items() if to_label(name) != label}
        own = [label for label in self.labels() if find_label(label) is None]
        if renamed:
            lines.append(
                printable("Folders taken for labels: " + ", ".join(f"{n} for {v}" for n, v in renamed.items()))
            )
        if own:
            lines.append(f"Labels of your own: {', '.join(own)}")
        return "\n".join([*lines, *self._list("left out", self.left_out), *self._list("uncertain", self.uncertain)])

    @staticmethod
    def _list(what: str, remarks: Sequence[Remark]) -> list[str]:
        """One line for each reason, with the number of names and the first of them."""
        names: dict[str, list[str]] = {}
        for name, reason in remarks:
            names.setdefault(reason, []).append(name)
        return [
            printable(f"{len(some)} {what} ({reason}): {', '.join(some[:MAX_NAMES])}")
            + (f" and {len(some) - MAX_NAMES} more" if len(some) > MAX_NAMES else "")
            for reason, some in names.items()
        ]
