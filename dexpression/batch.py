"""Many pictures, one after the other: what each answers, and which could not be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, count
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from dexpression.annotation import annotate
from dexpression.errors import DataError, RequestError
from dexpression.listing import Form, header, list_reading
from dexpression.picture import PICTURE_SUFFIXES, read_picture
from dexpression.prediction import Predictor
from dexpression.reading import Detect


def predict_pictures(
    predictor: Predictor,
    given: Sequence[Path],
    form: Form = "text",
    annotated: Path | None = None,
    detect: Detect = "auto",
) -> list[str]:
    """Print what every picture of these files and folders answers; returns a line for each that could not be read.

    With `annotated`, pictures with their boxes and labels are written there. Raises DataError where there is none, or
    where a copy cannot be written, or would be over a picture.
    """
    pictures = _find_pictures(given)
    targets = _targets(pictures, annotated) if annotated else {}
    labels = predictor.classifier.labels
    for line in header(form, labels):
        print(line)
    failures = []
    for path in tqdm(pictures, unit="picture", disable=None if len(pictures) > 1 else True):
        try:
            reading = predictor.predict(path, detect)
        except RequestError as error:
            failures.append(f"{path}: {error}")
            continue
        for line in list_reading(path, reading, form, labels):
            tqdm.write(line)  # above the bar, to standard output
        if annotated:
            _write(annotate(read_picture(path), reading), targets[path])
    return failures


def _find_pictures(given: Sequence[Path]) -> dict[Path, Path]:
    """Every file once, with its name below the folder that was given. What is named by itself is tried in any case."""
    found: dict[Path, Path] = {}
    for path in given:
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
    """Where each annotated picture goes: under its own name, numbered where two have the same."""
    sources = {path.resolve() for path in pictures}
    taken: set[Path] = set()
    targets: dict[Path, Path] = {}
    for path, name in pictures.items():
        named = folder / (name if name.suffix.lower() in PICTURE_SUFFIXES else name.with_name(f"{name.name}.png"))
        numbered = (named.with_stem(f"{named.stem}_{number}") for number in count(2))
        targets[path] = next(target for target in chain([named], numbered) if target not in taken)
        taken.add(targets[path])
        if targets[path].resolve() in sources:
            raise DataError(f"{targets[path]} would be written over. Choose another folder for the annotated pictures.")
    return targets


def _write(picture: Image.Image, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        picture.save(target)
    except OSError as error:
        raise DataError(f"{target} cannot be written ({error.strerror or error}).") from error
