"""Predict the pictures of files and folders, and print the readings as text, CSV or JSON Lines."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any, Literal

from PIL import Image
from tqdm import tqdm

from dexpression.annotation import annotate
from dexpression.errors import DataError, PictureError
from dexpression.picture import PICTURE_SUFFIXES, read_picture
from dexpression.prediction import Predictor
from dexpression.reading import Detect, Reading

Format = Literal["text", "csv", "json"]

COLUMNS = ("path", "face", "x", "y", "width", "height", "detection_confidence", "result", "confidence")


def predict_pictures(
    predictor: Predictor,
    files_and_folders: Sequence[Path],
    output_format: Format = "text",
    annotated_folder: Path | None = None,
    detect: Detect = "auto",
) -> list[str]:
    """Print the reading of every picture, and return one line for each picture that could not be read.

    With `annotated_folder`, copies with boxes and labels are written there. Raises DataError if there is no picture,
    or if a copy cannot be written or would replace a picture.
    """
    pictures = _find_pictures(files_and_folders)
    targets = _targets(pictures, annotated_folder) if annotated_folder else {}
    labels = predictor.classifier.labels
    for line in header(output_format, labels):
        print(line)
    failures = []
    for path in tqdm(pictures, unit="picture", disable=None if len(pictures) > 1 else True):
        try:
            reading = predictor.predict(path, detect)
        except PictureError as error:
            failures.append(f"{path}: {error}")
            continue
        for line in format_reading(path, reading, output_format, labels):
            tqdm.write(line)  # prints to standard output, above the progress bar
        if annotated_folder:
            _write(annotate(read_picture(path), reading), targets[path])
    return failures


def _find_pictures(files_and_folders: Sequence[Path]) -> dict[Path, Path]:
    """Map every picture to its path below the given folder. A file that is given by name may have any suffix."""
    found: dict[Path, Path] = {}
    for path in files_and_folders:
        if not path.is_dir():
            found.setdefault(path, Path(path.name))
            continue
        files = [file for file in sorted(path.rglob("*")) if file.suffix.lower() in PICTURE_SUFFIXES and file.is_file()]
        if not files:
            expected = ", ".join(sorted(PICTURE_SUFFIXES))
            raise DataError(f"There is no picture in {path}. Expected files named {expected}.")
        for file in files:
            found.setdefault(file, file.relative_to(path))
    return found


def _targets(pictures: Mapping[Path, Path], folder: Path) -> dict[Path, Path]:
    """Map every picture to the path of its annotated copy; a name that is taken gets a number."""
    sources = {path.resolve() for path in pictures}
    taken: set[Path] = set()
    targets: dict[Path, Path] = {}
    for path, name in pictures.items():
        named = folder / (name if name.suffix.lower() in PICTURE_SUFFIXES else name.with_name(f"{name.name}.png"))
        numbered = (named.with_stem(f"{named.stem}_{number}") for number in count(2))
        targets[path] = next(target for target in chain([named], numbered) if target not in taken)
        taken.add(targets[path])
        if targets[path].resolve() in sources:
            raise DataError(f"A copy would replace the picture {targets[path]}. Choose another folder for the copies.")
    return targets


def _write(picture: Image.Image, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        picture.save(target)
    except OSError as error:
        raise DataError(f"{target} cannot be written ({error.strerror or error}).") from error


def header(output_format: Format, labels: Sequence[str]) -> list[str]:
    """The line above all readings: the column names for CSV, none for other formats."""
    return [_csv_line([*COLUMNS, *labels])] if output_format == "csv" else []


def format_reading(path: Path, reading: Reading, output_format: Format, labels: Sequence[str]) -> list[str]:
    """Format a reading as one line per face, or one line without a face; as JSON, one line with `Reading.to_dict`."""
    if output_format == "json":
        return [json.dumps({"path": str(path)} | reading.to_dict())]
    faces = [face.to_dict() for face in reading.faces]
    if output_format == "text":
        return [f"{path}\t{face['result']}\t{face['confidence']:.2f}" for face in faces] or [f"{path}\tno face\t"]
    blank = [""] * (len(COLUMNS) - 1 + len(labels))
    rows = [_row(number, face, labels) for number, face in enumerate(faces, 1)]
    return [_csv_line([path, *row]) for row in rows or [blank]]


def _row(number: int, face: dict[str, Any], labels: Sequence[str]) -> list[Any]:
    box = face["box"]
    place = [box[side] for side in ("x", "y", "width", "height")]
    prediction = [face[name] for name in ("detection_confidence", "result", "confidence")]
    return [number, *place, *prediction, *(face["probabilities"][label] for label in labels)]


def _csv_line(values: Sequence[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(values)
    return line.getvalue()
