"""Read labelled faces from disk: class folders or fer2013.csv, with or without FER+ votes.

happy/…                                 one folder per class (upper or lower case, with any folders below it)
train/happy/… valid/happy/… test/…      the same below one folder per split
fer2013.csv                             with the columns emotion, pixels, Usage
ferplus.csv, fer2013new.csv             FER+ votes for any of these, by the row in fer2013.csv
"""

from __future__ import annotations

import csv
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from dexpression.errors import DataError, PictureError
from dexpression.files import (
    LeftOut,
    file_status,
    find_files,
    find_folders,
    is_folder,
    open_regular_file,
    printable,
    read_picture_file,
)
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
MAX_LINE = 1_000_000  # characters; a face of 48x48 pixels has 9,000
MAX_VOTES = 1_000_000  # FER+ has ten votes a face
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
        """The FER+ majority vote (Barsoum et al. 2016); None if there is none, or if it is not for one of our labels.

        Of the votes for each answer, a single one does not count. More than half of the others agree.
        """
        votes = {column: count for column, count in (self.votes or {}).items() if count > 1}
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
            number, such_as = len(self.unreadable), "".join(self.unreadable[:1])
            skipped = f" ({number} files could not be read, such as {such_as})" if number else ""
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
        lines = [f"{printable(self.name)}: {len(self.faces)} faces ({counts})"]
        if self.unreadable:
            more = f" and {len(self.unreadable) - 5} more" if len(self.unreadable) > 5 else ""
            names = printable(", ".join(self.unreadable[:5]))
            lines.append(f"{len(self.unreadable)} unreadable, skipped: {names}{more}")
        return "\n".join(lines)


def read_faces(source: Path, size: int) -> FaceSet:
    """Read every face of a folder or of a CSV file; raises DataError if there is none, or for an unknown class.

    Links below the folder are not followed.
    """
    if file_status(source) is None:
        raise DataError(f"{source} does not exist. Give a folder of class folders, or fer2013.csv.")
    if not is_folder(source):
        return read_table(source, size)
    table = source / "fer2013.csv"
    return read_table(table, size) if _has_file(table) else read_folder(source, size)


def find_votes(source: Path) -> Path | None:
    """Find the file of FER+ votes in the folder `source`, or beside the file `source`; None if there is none."""
    folder = source if is_folder(source) else source.parent
    return next((folder / name for name in VOTE_FILES if _has_file(folder / name)), None)


def _has_file(path: Path) -> bool:
    """Whether there is such a file; raises DataError for a link or a pipe, which must be reported."""
    status = file_status(path, follow_links=False)
    if status and not stat.S_ISREG(status.st_mode):
        raise DataError(f"{path} is not a regular file. Links are followed only if they are named: name its target.")
    return status is not None


def read_folder(folder: Path, size: int) -> FaceSet:
    """Read the faces of class folders, with or without split folders above them."""
    faces: list[Face] = []
    unreadable: list[str] = []
    class_folders, left_out = _class_folders(folder)
    for split, label, class_folder in class_folders:
        files, more = find_files(class_folder, PICTURE_SUFFIXES)
        left_out += more
        for path in files:
            name = path.relative_to(folder).as_posix()
            try:
                image = frame_face(read_picture(read_picture_file(path, follow_links=False)), size)
            except PictureError:
                unreadable.append(name)
            else:
                faces.append(Face(name, label, split, image, path))
    unreadable += [f"{path.relative_to(folder).as_posix()} ({reason})" for path, reason in left_out]
    return FaceSet(folder.resolve().name, faces, unreadable)


def _class_folders(folder: Path) -> tuple[list[tuple[Split | None, str, Path]], list[LeftOut]]:
    """Find the class folders with their splits and labels, and the links to folders, which are left out."""
    folders, left_out = find_folders(folder)
    found: list[tuple[Split | None, Path]] = [(None, child) for child in folders]
    split_folders = [child for child in folders if child.name.lower() in SPLITS]
    if split_folders:
        found = []
        for above in split_folders:
            below, more = find_folders(above)
            found += [(SPLITS[above.name.lower()], child) for child in below]
            left_out += more
    return [(split, _label_of(child, folder), child) for split, child in found], left_out


def _label_of(class_folder: Path, folder: Path) -> str:
    label = find_label(class_folder.name)
    if label is None:
        known = ", ".join(label.lower() for label in EIGHT)
        raise DataError(f"The folder {class_folder.relative_to(folder)} is not named after a label: {known}.")
    return label


def move_to_label(picture: Path, label: str) -> Path:
    """Move a picture from its class folder to that of `label`, and rename it if its name is taken there."""
    own = next(folder for folder in picture.parents if find_label(folder.name))
    beside = (folder for folder in find_folders(own.parent)[0] if find_label(folder.name) == label)
    target = next(beside, own.parent / label.lower()) / picture.name
    target.parent.mkdir(exist_ok=True)
    while file_status(target, follow_links=False):  # `exists` is false for a link to nothing, which must stay too
        target = target.with_stem(target.stem + "_")
    return picture.rename(target)


def read_table(table: Path, size: int) -> FaceSet:
    """Read fer2013.csv: the columns emotion (0 to 6), pixels (48 x 48 numbers) and, optionally, Usage."""
    faces: list[Face] = []
    unreadable: list[str] = []
    for number, row in enumerate(read_rows(table, ("emotion", "pixels"))):
        label = _label_of_number(row["emotion"], number)
        split = SPLITS.get((row.get("usage") or "").strip().lower())
        try:
            image = frame_face(_face_of_pixels(row["pixels"] or ""), size)
        except (ValueError, OverflowError):
            unreadable.append(f"row {number}")
        else:
            faces.append(Face(f"row {number}", label, split, image))
    return FaceSet(table.name, faces, unreadable)


def read_rows(table: Path, needed: Sequence[str]) -> Iterator[dict[str, str | None]]:
    """Yield the rows of a CSV file by lower-case column names; raises DataError if a needed column is missing."""
    try:
        with open(table, newline="", encoding="utf-8-sig", opener=open_regular_file) as file:
            # A line that is longer comes in parts, which are no rows: it must not fill the memory.
            reader = csv.reader(iter(partial(file.readline, MAX_LINE), ""))
            columns = [name.strip().lower() for name in next(reader, [])]
            if not {name.lower() for name in needed} <= set(columns):
                raise DataError(f"{table.name} has the columns {_cut(columns)}. It needs {', '.join(needed)}.")
            for values in filter(None, reader):  # blank lines are skipped
                yield dict(zip_longest(columns, values[: len(columns)]))
    except OSError as error:
        raise DataError(f"{table} cannot be read ({error.strerror}).") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{table.name} cannot be read as CSV ({_cut(error)}).") from error


def _cut(value: object) -> str:
    """The first 200 characters: a message must be short, whatever a file holds."""
    return str(value)[:200]


def _label_of_number(text: str | None, row: int) -> str:
    if text is None or text not in map(str, range(len(FER2013_ORDER))):
        raise DataError(f"Row {row} has the emotion {_cut(repr(text))}. Expected 0 to 6: {', '.join(FER2013_ORDER)}.")
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
    if file_status(table) is None:
        raise DataError(f"The file of votes {table} does not exist. Give ferplus.csv or fer2013new.csv.")
    votes: dict[int, Votes] = {}
    for number, line in enumerate(read_rows(table, VOTE_COLUMNS)):
        try:
            row = int(Path(line["file"] or "").stem) if "file" in line else number
            votes[row] = {column: _vote_count(line[column.lower()] or "") for column in VOTE_COLUMNS}
        except ValueError as error:
            raise DataError(
                f"Row {number} of {table.name} lacks its file or ten numbers of votes ({_cut(error)})."
            ) from error
    return votes


def _vote_count(text: str) -> int:
    number = int(text)
    if not 0 <= number <= MAX_VOTES:
        raise ValueError(f"{number} votes")
    return number
