"""Read CSV files: fer2013.csv, and the FER+ votes for its faces.

fer2013.csv                         with the columns emotion, pixels and, optionally, Usage
ferplus.csv, fer2013new.csv         FER+ votes for these faces or for folders of them, by the row in fer2013.csv
"""

from __future__ import annotations

import csv
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, zip_longest
from pathlib import Path
from typing import TextIO

import numpy as np
from PIL import Image

from dexpression.errors import DataError
from dexpression.files import file_status, is_folder, open_regular_file
from dexpression.labels import FER2013_ORDER
from dexpression.picture import frame_face
from dexpression.training.face_set import SPLITS, Face, FaceSet, Remark, Split, Votes

TABLE = "fer2013.csv"
TABLE_COLUMNS = ("emotion", "pixels", "usage")
MAX_LINE = 1_000_000  # characters; a face of 48x48 pixels has 9,000, one of 224x224 has 200,000
MAX_VOTES = 1_000_000  # FER+ has ten votes a face
VOTE_FILES = ("ferplus.csv", "fer2013new.csv")
VOTE_COLUMNS = (
    "neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF",
)  # fmt: skip


def read_table(table: Path, size: int) -> FaceSet:
    """Read fer2013.csv: emotion (0 to 6), pixels (numbers of a square grey face) and, optionally, Usage.

    A file without a line of column names has them in this order. Raises DataError.
    """
    faces: list[Face] = []
    left_out: list[Remark] = []
    for number, row in enumerate(read_rows(table, TABLE_COLUMNS[:2], headless=TABLE_COLUMNS)):
        label, split = _label_of_number(row["emotion"], number), _split_of_usage(row.get("usage"), number)
        try:
            image = frame_face(_face_of_pixels(row["pixels"] or ""), size)
        except (ValueError, OverflowError):
            left_out.append(Remark(f"row {number}", "its pixels are not a square of numbers 0 to 255"))
        else:
            faces.append(Face(f"row {number}", label, split, image))
    return FaceSet(table.name, faces, left_out)


def read_rows(table: Path, needed: Sequence[str], headless: Sequence[str] = ()) -> Iterator[dict[str, str | None]]:
    """Yield the rows of a CSV file by lower-case column names; raises DataError if a needed column is missing.

    A file whose first line begins with a number has no column names: its columns are `headless`, if that is given.
    """
    csv.field_size_limit(MAX_LINE)
    try:
        with open(table, newline="", encoding="utf-8-sig", opener=open_regular_file) as file:
            rows: Iterator[list[str]] = csv.reader(_lines(file, table.name))
            first = next(rows, [])
            columns = [name.strip().lower() for name in first]
            if headless and columns and columns[0].isdigit():
                columns, rows = list(headless), chain([first], rows)
            if not {name.lower() for name in needed} <= set(columns):
                raise DataError(f"{table.name} has the columns {_cut(columns)}. It needs {', '.join(needed)}.")
            for number, values in enumerate(filter(None, rows)):  # blank lines are skipped
                if any(values[len(columns) :]):
                    raise DataError(
                        f"Row {number} of {table.name} has {len(values)} values for {len(columns)} columns. "
                        "Put a value that has commas into double quotes."
                    )
                yield dict(zip_longest(columns, values[: len(columns)]))
    except OSError as error:
        raise DataError(f"{table} cannot be read ({error.strerror}).") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{table.name} cannot be read as CSV ({_cut(error)}).") from error


def _lines(file: TextIO, name: str) -> Iterator[str]:
    """Yield the lines of a file; raises DataError for a very long one, which must not fill the memory."""
    for number, line in enumerate(iter(partial(file.readline, MAX_LINE), ""), start=1):
        if len(line) == MAX_LINE:
            raise DataError(f"Line {number} of {name} has {MAX_LINE:,} characters or more. Expected one face a line.")
        yield line


def _cut(value: object) -> str:
    """The first 200 characters: a message must be short, whatever a file holds."""
    return str(value)[:200]


def _label_of_number(text: str | None, row: int) -> str:
    if text is None or text.strip() not in map(str, range(len(FER2013_ORDER))):
        raise DataError(f"Row {row} has the emotion {_cut(repr(text))}. Expected 0 to 6: {', '.join(FER2013_ORDER)}.")
    return FER2013_ORDER[int(text)]


def _split_of_usage(text: str | None, row: int) -> Split | None:
    usage = (text or "").strip().lower()
    if usage and usage not in SPLITS:
        raise DataError(f"Row {row} has the Usage {_cut(repr(text))}. Expected Training, PublicTest or PrivateTest.")
    return SPLITS.get(usage)


def _face_of_pixels(text: str) -> Image.Image:
    """The face of numbers 0 to 255 between spaces or commas, with or without brackets; raises ValueError."""
    pixels = np.array(re.sub(r"[\[\](),;]", " ", text).split(), dtype=np.uint8)
    side = max(1, int(len(pixels) ** 0.5))
    return Image.fromarray(pixels.reshape(side, side))  # a ValueError if they are not a square


def find_votes(source: Path) -> Path | None:
    """Find the file of FER+ votes in the folder `source`, or beside the file `source`; None if there is none."""
    folder = source if is_folder(source) else source.parent
    return next((folder / name for name in VOTE_FILES if has_file(folder / name)), None)


def has_file(path: Path) -> bool:
    """Whether there is such a file; raises DataError for a link or a pipe, which must be reported."""
    status = file_status(path, follow_links=False)
    if status and not stat.S_ISREG(status.st_mode):
        raise DataError(f"{path} is not a regular file. Links are followed only if they are named: name its target.")
    return status is not None


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
