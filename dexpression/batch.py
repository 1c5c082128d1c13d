"""Predict the pictures of files and folders, and print the readings as text, CSV or JSON Lines."""

from __future__ import annotations

import csv
import io
import json
import logging
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tqdm import tqdm

from dexpression.annotation import annotate
from dexpression.copies import AnnotatedCopies
from dexpression.errors import DataError, PictureError
from dexpression.files import find_files, is_folder, is_leftover, printable, read_head, read_picture_file
from dexpression.kinds import HEAD_BYTES, READABLE, find_format, is_film, name_kind
from dexpression.labels import ReadingName
from dexpression.picture import PICTURE_SUFFIXES, read_picture
from dexpression.prediction import Predictor
from dexpression.reading import Detect, Reading
from dexpression.sorted_faces import SortedFaces

Format = Literal["text", "csv", "json"]

logger = logging.getLogger(__name__)

COLUMNS = ("path", "face", "x", "y", "width", "height", "detection_confidence", "result", "confidence")


class Found(NamedTuple):
    """How a picture was found."""

    name: Path  # below the given folder; of a file that is given by name, its name
    by_name: bool


def predict_pictures(
    predictor: Predictor,
    files_and_folders: Sequence[Path],
    output_format: Format = "text",
    annotated_folder: Path | None = None,
    detect: Detect = "auto",
    reading: ReadingName | None = None,
    sorted_folder: Path | None = None,
    explain: bool = False,
) -> list[str]:
    """Print the reading of every picture, and return one line for each picture that was not read or not copied.

    In folders, the content of a file decides whether it is a picture. Others are counted on standard error.
    With `annotated_folder`, copies with boxes and labels are written there. With `sorted_folder`, each face is written
    into a folder of its label there, and the log says how many. With `explain`, the copies and the JSON have the
    evidence for each answer. Raises DataError if one of these folders cannot be used (see `AnnotatedCopies` and
    `SortedFaces`), UnknownReading and NoEvidence.
    """
    predictor.classifier.choose(reading)
    if explain:
        _check_explanation(predictor, output_format, annotated_folder)
    pictures, failures = _find_pictures(files_and_folders)
    names = {path: found.name for path, found in pictures.items()}
    copies = AnnotatedCopies(annotated_folder, names) if annotated_folder else None
    labels = predictor.classifier.labels
    folders = [given for given in files_and_folders if is_folder(given)]
    sorted_faces = SortedFaces(sorted_folder, labels, folders) if sorted_folder else None
    for line in header(output_format, labels):
        print(line)
    for path, found in tqdm(pictures.items(), unit="picture", disable=None if len(pictures) > 1 else True):
        try:
            # Read once, so that a copy or a face shows what was predicted.
            content = read_picture_file(path, follow_links=found.by_name)
            if is_film(content):
                raise DataError(f"The file is a film. Read it by the command: dexpression video {path}")
            found_faces = predictor.predict(content, detect, False, reading, explain).with_evidence_of_answers()
            for line in format_reading(path, found_faces, output_format, labels):
                tqdm.write(line)  # prints to standard output, above the progress bar
            if sorted_faces:
                sorted_faces.write(found.name, read_picture(content), found_faces.faces)
            if copies:
                copies.write(path, annotate(read_picture(content), found_faces))
        except (PictureError, DataError) as error:
            failures.append(failure_line(path, error))
    if sorted_faces:
        logger.info("%s", printable(sorted_faces.summary()))
    return failures


def _check_explanation(predictor: Predictor, output_format: Format, annotated_folder: Path | None) -> None:
    """Raise NoEvidence, or DataError if an explanation would appear nowhere."""
    predictor.classifier.require_evidence()
    if output_format != "json" and not annotated_folder:
        raise DataError("A line of text or CSV has no place for an explanation. Add --annotate DIR or --json.")


def _find_pictures(files_and_folders: Sequence[Path]) -> tuple[dict[Path, Found], list[str]]:
    """Find all pictures that are given by name or lie in a given folder; the lines say what is left out.

    A file that is given by name may be anything.
    """
    found: dict[Path, Found] = {}
    failures: list[str] = []
    for given in files_and_folders:
        if not is_folder(given):
            found.setdefault(given, Found(Path(given.name), by_name=True))
            continue
        files, left_out = find_files(given, None)
        leftovers = {path for path in (*files, *(path for path, _ in left_out)) if is_leftover(path.relative_to(given))}
        failures += [failure_line(path, f"It is {reason}.") for path, reason in left_out if path not in leftovers]
        passed_over = {path: kind for path in files if (kind := _kind_of_other(path, path.relative_to(given)))}
        pictures = [path for path in files if path not in passed_over]
        if others := Counter(kind for path, kind in passed_over.items() if path not in leftovers):
            print(others_line(given, others), file=sys.stderr)
        if not pictures:
            failures.append(f"There is no picture in {printable(given)}. Expected {READABLE}.")
        for file in pictures:
            found.setdefault(file, Found(file.relative_to(given), by_name=False))
    return found, failures


def _kind_of_other(path: Path, name: Path) -> str | None:
    try:
        return kind_of_other(name, read_head(path, HEAD_BYTES))
    except (OSError, ValueError):
        return None


def kind_of_other(name: Path, head: bytes) -> str | None:
    """What a file of a folder is, by its first bytes, that neither is nor claims to be a picture; None for a picture.

    `name` is its path below the folder. What a system made for itself claims nothing, whatever its name.
    """
    is_claimed = name.suffix.lower() in PICTURE_SUFFIXES and not is_leftover(name)
    return None if is_claimed or find_format(head) else name_kind(head)


def others_line(given: object, kinds: Counter[str]) -> str:
    """The line that says how many files of a folder were no pictures, by what they are."""
    shown = ", ".join(f"{kind.removeprefix('a ')} ({count})" for kind, count in kinds.most_common())
    return printable(f"{given}: Files of other kinds were passed over: {shown}.")


def failure_line(path: Path, reason: object) -> str:
    """The line that says why a file was not read."""
    return printable(f"{path}: {reason}")


def header(output_format: Format, labels: Sequence[str]) -> list[str]:
    """The line above all readings: the column names for CSV, none for other formats."""
    return [csv_line([*COLUMNS, *labels])] if output_format == "csv" else []


def format_reading(path: Path, reading: Reading, output_format: Format, labels: Sequence[str]) -> list[str]:
    """Format a reading as one line per face, or one line without a face; as JSON, one line with `Reading.to_dict`.

    Text and CSV have escapes for line breaks and the like in a path; JSON has the path itself.
    """
    if output_format == "json":
        return [json.dumps({"path": str(path)} | reading.to_dict(), allow_nan=False)]
    shown = printable(path)
    faces = [face.to_dict() for face in reading.faces]
    if output_format == "text":
        return [f"{shown}\t{face['result']}\t{face['confidence']:.2f}" for face in faces] or [f"{shown}\tno face\t"]
    blank = [""] * (len(COLUMNS) - 1 + len(labels))
    rows = [face_values(number, face, labels) for number, face in enumerate(faces, 1)]
    return [csv_line([shown, *row]) for row in rows or [blank]]


def face_values(number: int, face: dict[str, Any], labels: Sequence[str]) -> list[Any]:
    """What `COLUMNS`, after the path, and the labels have of a face in the form of `FaceReading.to_dict`."""
    box = face["box"]
    place = [box[side] for side in ("x", "y", "width", "height")]
    prediction = [face[name] for name in ("detection_confidence", "result", "confidence")]
    return [number, *place, *prediction, *(face["probabilities"][label] for label in labels)]


def csv_line(values: Sequence[Any]) -> str:
    """One row of CSV, without a line break at its end."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(values)
    return line.getvalue()
