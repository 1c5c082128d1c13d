"""What reading a film costs beside decoding it: `pipenv run python -W ignore -m benchmarks.films`.

The films have 640x480 pixels, 25 frames a second and two faces; ten frames a second are read. All processes run on one
core, where the system can choose it. "As single pictures" searches each whole frame for faces. At the end, the share of
faces of drawn scenes that are found near where they were.
"""

from __future__ import annotations

import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import astuple
from pathlib import Path
from statistics import mean
from unittest.mock import patch

import numpy as np

from benchmarks.detectors import SAME, best_overlap
from benchmarks.scenes import draw_scene
from dexpression import Predictor
from dexpression.faces import FaceDetector
from dexpression.picture import Box
from dexpression.video import search
from dexpression.video.decoding import Film
from tests.support.films import draw_frame, portrait, write_film

SECONDS, RATE = 10, 25
SIDES = (200, 100)  # pixels of the square with the head
FACE = 0.38  # of its width is the face
SCENES, MOVED = 120, 0.12


def main() -> None:
    """Print a table of seconds a second of film."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    predictor = Predictor.load()
    print("| faces | | processor time | by the clock |\n|---|---|---|---|")
    for side in SIDES:
        face = portrait(side)
        frames = (draw_frame((2 * n % 200, 50), (380, 220), size=(640, 480), face=face) for n in range(SECONDS * RATE))
        with tempfile.TemporaryDirectory() as folder:
            path = write_film(Path(folder) / "film.mp4", frames, RATE)
            _measure(side, "decoding alone", lambda path=path: _decode(path))
            _measure(side, "decoding and reading", lambda path=path: predictor.video(path))
            with patch.object(search, "MAX_PLACES", 0):
                _measure(side, "as single pictures", lambda path=path: predictor.video(path))
    _print_found_again()


def _print_found_again() -> None:
    """Look for up to six faces of each drawn scene near places that are off by 12 % of their size."""
    detector, chance, found = FaceDetector.load(threads=1), np.random.default_rng(0), []
    for number in range(SCENES):
        picture = draw_scene(number).picture
        for face in detector.find_faces(picture)[:6]:
            corners = np.array(astuple(face.box))
            moved = corners + np.tile(chance.normal(0, MOVED * face.box.area**0.5, 2), 2)
            boxes = np.array([astuple(one.box) for one in detector.find_near(picture, [Box(*moved)])]).reshape(-1, 4)
            found.append(best_overlap(corners, boxes) >= SAME)
    print(f"\nOf {len(found)} faces in {SCENES} drawn scenes, {mean(found):.1%} are found near their place.")


def _decode(path: Path) -> Iterable[object]:
    with Film(path, 0.1) as film:
        yield from film


def _measure(side: int, name: str, frames: Callable[[], Iterable[object]]) -> None:
    start, used = time.perf_counter(), _processor_seconds()
    for _ in frames():
        pass
    used, elapsed = _processor_seconds() - used, time.perf_counter() - start
    print(f"| {side * FACE:.0f} px | {name} | {used / SECONDS:.2f} | {elapsed / SECONDS:.2f} |")


def _processor_seconds() -> float:
    """Of this process and of its ended children."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


if __name__ == "__main__":
    main()
