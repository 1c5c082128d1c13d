"""Read labelled faces from disk: class folders or fer2013.csv, with or without FER+ votes.

happy/…                                 one folder per class (upper or lower case, with any folders below it)
train/happy/… valid/happy/… test/…      the same below one folder per split
fer2013.csv                             with the columns emotion, pixels, Usage
ferplus.csv, fer2013new.csv             FER+ votes for any of these, by the row in fer2013.csv
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from dexpression.errors import DataError, PictureError
from dexpression.labels import EIGHT, FER2013_ORDER, find_label
from dexpression.picture import PICTURE_SUFFIXES, frame_face, read_picture

Split = Literal["train", "valid", "test"]

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
VOTE_FILES = ("ferplus.csv", "fer2013new.csv")
VOTE_COLUMNS = (
    "neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF",
)  # fmt: skip

Votes = dict[str, int]  # the number of votes for each FER+ column


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
        """The label that more than half of the FER+ votes are for; None if there is none or it is not one of ours."""
        votes = self.votes or {}
        return next((find_label(column) for column, count in votes.items() if 2 * count > sum(votes.values())), None)

    def __fspath__(self) -> str:  # fastai's ImageClassifierCleaner opens faces as paths
        if self.path is None:
            raise DataError(f"{self.name} is a row of a CSV file and has no picture file.")
        return str(self.path)


@dataclass(frozen=True)
class FaceSet:
    """All faces of one source, and the names of files and rows that could not be read."""

    name: str
    faces: Sequence[Face]
    unreadable: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not self.faces:
            skipped = f" ({len(self.unreadable)} files could not be read)" if self.unreadable else ""
            raise DataError(
                f"No faces in {self.name}{skipped}. Expected one folder per class (happy/, sad/, ...), such "
                "folders below train/, valid/ or test/, or fer2013.csv."
            )

    def of_split(self, split: Split) -> FaceSet:
        """Keep the faces of one split."""
        return replace(self, faces=[face for face in self.faces if face.split == split])

    def of_labels(self, labels: Iterable[str]) -> FaceSet:
        """Keep the faces that have one of these labels."""
        wanted = set(labels)
        return replace(self, faces=[face for face in self.faces if face.label in wanted])

    def by_majority(self) -> FaceSet:
        """Keep the faces with a FER+ majority vote for one of our labels, and label them by it."""
        seen = [(face, face.majority) for face in self.faces]
        return replace(self, faces=[replace(face, label=label) for face, label in seen if label])

    def splits(self) -> set[Split | None]:
        """The splits that occur; None stands for faces without a split."""
        return {face.split for face in self.faces}

    def report(self) -> str:
        """Say in one or two lines how many faces were read and which files were skipped."""
        splits = Counter(face.split or "unsplit" for face in self.faces)
        counts = ", ".join(f"{count} {split}" for split, count in splits.items())
        lines = [f"{self.name}: {len(self.faces)} faces ({counts})"]
        if self.unreadable:
            more = f" and {len(self.unreadable) - 5} more" if len(self.unreadable) > 5 else ""
            lines.append(f"{len(self.unreadable)} unreadable, skipped: {', '.join(self.unreadable[:5])}{more}")
        return "\n".join(lines)


def read_faces(source: Path, size: int) -> FaceSet:
    """Read every face of a folder or of a CSV file; raises DataError if there is none, or for an unknown class."""
    if not source.exists():
        raise DataError(f"{source} does not exist. Give a folder of class folders, or fer2013.csv.")
    table = _table_of(source)
    return read_table(table, size) if table.is_file() else read_folder(source, size)


def find_votes(source: Path) -> Path | None:
    """Find the file of FER+ votes in the folder `source`, or beside the file `source`; None if there is none."""
    beside = (_table_of(source).parent / name for name in VOTE_FILES)
    return next((path for path in beside if path.is_file()), None)


def _table_of(source: Path) -> Path:
    return source if source.is_file() else source / "fer2013.csv"


def read_folder(folder: Path, size: int) -> FaceSet:
    """Read the faces of class folders, with or without split folders above them."""
    faces: list[Face] = []
    unreadable: list[str] = []
    for split, label, path in _labelled_files(folder):
        name = path.relative_to(folder).as_posix()
        try:
            image = frame_face(read_picture(path), size)
        except PictureError:
            unreadable.append(name)
        else:
            faces.append(Face(name, label, split, image, path))
    return FaceSet(folder.resolve().name, faces, unreadable)


def _labelled_files(folder: Path) -> Iterator[tuple[Split | None, str, Path]]:
    folders = _folders_in(folder)
    split_folders = [child for child in folders if child.name.lower() in SPLITS]
    class_folders: list[tuple[Split | None, Path]] = [(None, child) for child in folders]
    if split_folders:
        class_folders = [(SPLITS[above.name.lower()], child) for above in split_folders for child in _folders_in(above)]
    for split, child in class_folders:
        label = find_label(child.name)
        if label is None:
            raise DataError(f"The folder {child.relative_to(folder)} is not named after a label: {_known_labels()}.")
        for path in sorted(child.rglob("*")):
            if path.suffix.lower() in PICTURE_SUFFIXES:
                yield split, label, path


def move_to_label(picture: Path, label: str) -> Path:
    """Move a picture from its class folder to that of `label`, and rename it if its name is taken there."""
    own = next(folder for folder in picture.parents if find_label(folder.name))
    beside = (folder for folder in _folders_in(own.parent) if find_label(folder.name) == label)
    target = next(beside, own.parent / label.lower()) / picture.name
    target.parent.mkdir(exist_ok=True)
    while target.exists():
        target = target.with_stem(target.stem + "_")
    return picture.rename(target)


def _folders_in(folder: Path) -> list[Path]:
    return [child for child in sorted(folder.iterdir()) if child.is_dir() and not child.name.startswith(".")]


def read_table(table: Path, size: int) -> FaceSet:
    """Read fer2013.csv: the columns emotion (0 to 6), pixels (48 x 48 numbers) and, optionally, Usage."""
    faces: list[Face] = []
    unreadable: list[str] = []
    for number, row in enumerate(_rows(table, ("emotion", "pixels"))):
        label = _label_of_number(row["emotion"], number)
        split = SPLITS.get((row.get("usage") or "").strip().lower())
        try:
            image = frame_face(_face_of_pixels(row["pixels"] or ""), size)
        except (ValueError, OverflowError):
            unreadable.append(f"row {number}")
        else:
            faces.append(Face(f"row {number}", label, split, image))
    return FaceSet(table.name, faces, unreadable)


def _rows(table: Path, needed: Sequence[str]) -> Iterator[dict[str, str | None]]:
    """Yield the rows of a CSV file by lower-case column names; raises DataError if a needed column is missing."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.reader(lines)
            columns = [name.strip().lower() for name in next(reader, [])]
            if not {name.lower() for name in needed} <= set(columns):
                raise DataError(f"{table.name} has the columns {columns}. It needs {', '.join(needed)}.")
            for values in filter(None, reader):  # blank lines are skipped
                yield dict(zip_longest(columns, values[: len(columns)]))
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{table.name} cannot be read as CSV ({error}).") from error


def _label_of_number(text: str | None, row: int) -> str:
    if text is None or text not in map(str, range(len(FER2013_ORDER))):
        raise DataError(f"Row {row} has the emotion {text!r}. Expected 0 to 6: {', '.join(FER2013_ORDER)}.")
    return FER2013_ORDER[int(text)]


def _face_of_pixels(text: str) -> Image.Image:
    pixels = np.array(text.split(), dtype=np.uint8)
    side = max(1, int(len(pixels) ** 0.5))
    return Image.fromarray(pixels.reshape(side, side))  # a ValueError if they are not a square


def add_votes(found: FaceSet, table: Path) -> FaceSet:
    """Add the FER+ votes to all faces; raises DataError if a face has no row of votes."""
    votes = read_votes(table)
    missing = [face.name for face in found.faces if face.row not in votes]
    if missing:
        raise DataError(
            f"The votes in {table.name} do not fit {found.name}: {len(missing)} of {len(found.faces)} faces have none, "
            f"such as {missing[0]}. Expected a line for each face, found by its row in fer2013.csv (00012.png, row 12)."
        )
    return replace(found, faces=[replace(face, votes=votes[face.row]) for face in found.faces if face.row is not None])


def read_votes(table: Path) -> dict[int, Votes]:
    """Read votes by their row in fer2013.csv: from ferplus.csv, or from fer2013new.csv, which is in the same order."""
    if not table.is_file():
        raise DataError(f"The file of votes {table} does not exist. Give ferplus.csv or fer2013new.csv.")
    votes: dict[int, Votes] = {}
    for number, line in enumerate(_rows(table, VOTE_COLUMNS)):
        try:
            row = int(Path(line["file"] or "").stem) if "file" in line else number
            votes[row] = {column: int(line[column.lower()] or "") for column in VOTE_COLUMNS}
        except ValueError as error:
            raise DataError(
                f"Row {number} of {table.name} lacks its file or ten numbers of votes ({error})."
            ) from error
    return votes


def _known_labels() -> str:
    return ", ".join(label.lower() for label in EIGHT)
