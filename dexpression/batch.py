"""Many pictures, one after the other: what each answers, and which could not be read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

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
    where one would be written over.
    """
    pictures = list(_find_pictures(given))
    targets = _targets(pictures, annotated) if annotated else {}
    labels = predictor.classifier.labels
    for line in header(form, labels):
        print(line)
    failures = []
    for path, _ in tqdm(pictures, unit="picture", disable=None if len(pictures) > 1 else True):
        try:
            picture = read_picture(path)
            reading = predictor.predict(picture, detect)
        except RequestError as error:
            failures.append(f"{path}: {error}")
            continue
        for line in list_reading(path, reading, form, labels):
            tqdm.write(line)  # above the bar, to standard output
        if annotated:
            targets[path].parent.mkdir(parents=True, exist_ok=True)
            annotate(picture, reading).save(targets[path])
    return failures


def _find_pictures(given: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """Every file once, with its name below the folder that was given. What is named by itself is tried in any case."""
    for path in dict.fromkeys(given):
        if not path.is_dir():
            yield path, Path(path.name)
            continue
        found = [file for file in sorted(path.rglob("*")) if file.suffix.lower() in PICTURE_SUFFIXES]
        if not found:
            raise DataError(
                f"There is no picture in {path}. Expected files named {', '.join(sorted(PICTURE_SUFFIXES))}."
            )
        yield from ((file, file.relative_to(path)) for file in found)


def _targets(pictures: Sequence[tuple[Path, Path]], folder: Path) -> dict[Path, Path]:
    """Where each annotated picture goes: under its own name, numbered where two have the same."""
    taken: set[Path] = set()
    targets = {}
    for path, name in pictures:
        if name.suffix.lower() not in PICTURE_SUFFIXES:
            name = name.with_name(f"{name.name}.png")
        number, free = 1, name
        while free in taken:
            number += 1
            free = name.with_stem(f"{name.stem}_{number}")
        taken.add(free)
        targets[path] = folder / free
        if targets[path].resolve() == path.resolve():
            raise DataError(f"{path} would be written over. Choose another folder for the annotated pictures.")
    return targets
