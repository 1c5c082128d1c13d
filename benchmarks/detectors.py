"""Compare ways to search for faces on drawn scenes: `pipenv run python -W ignore -m benchmarks.detectors`.

Each way searches the same scenes in turn, in one thread, so that other load on the machine affects all: quote the
ratios. Four minutes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, field
from statistics import mean, quantiles

import cv2
import numpy as np
from PIL import Image

from benchmarks.scenes import Scene, draw_scene
from dexpression.faces import MAX_OVERLAP, QUICK_SIDE, SIDE, FaceDetector, overlap
from dexpression.reading import MIN_FACE_CONFIDENCE
from dexpression.shipped import DETECTOR_WEIGHTS

SCENES = 400
SAME = 0.4  # intersection over union from which a box is that of a face
GROUPS = {"no face": (0, 0), "one face": (1, 1), "2 to 5": (2, 5), "6 to 20": (6, 20)}  # faces in a scene

Search = Callable[[Image.Image], np.ndarray]  # boxes (N, 4) in pixels of the picture


@dataclass
class Score:
    """What one way to search found in the scenes."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {group: [] for group in GROUPS})
    hits: dict[str, list[bool]] = field(default_factory=lambda: {group: [] for group in GROUPS})
    false: int = 0
    overlaps: list[float] = field(default_factory=list)  # of the boxes with those of the first way


def main() -> None:
    """Print a table with a row for each way to search."""
    scores: dict[str, Score] = {name: Score() for name in WAYS}
    for number in range(SCENES):
        scene = draw_scene(number)
        group = next(name for name, (least, most) in GROUPS.items() if least <= len(scene.faces) <= most)
        reference: np.ndarray | None = None
        for name, search in WAYS.items():
            started = time.thread_time()
            found = search(scene.picture)
            scores[name].seconds[group].append(time.thread_time() - started)
            reference = found if reference is None else reference
            _add(scores[name], group, scene, found, reference)
    with_faces = list(GROUPS)[1:]
    names = [*(f"ms, {name}" for name in GROUPS), "found", *(f"found, {name}" for name in with_faces), "false finds"]
    print(f"| way | {' | '.join(names)} | same box, median | 5 % below |\n|{'---|' * (len(names) + 3)}")
    for name, score in scores.items():
        _print_row(name, score, with_faces)


def _add(score: Score, group: str, scene: Scene, found: np.ndarray, reference: np.ndarray) -> None:
    drawn = np.array([astuple(face) for face in scene.faces]).reshape(-1, 4)
    score.hits[group] += [best_overlap(face, found) >= SAME for face in drawn]
    score.false += sum(best_overlap(box, drawn) < SAME for box in found)
    score.overlaps += [best for box in reference if (best := best_overlap(box, found)) >= SAME]


def best_overlap(box: np.ndarray, others: np.ndarray) -> float:
    """Intersection over union with the box that fits best; 0 if there is none."""
    return float(overlap(box, others).max(initial=0))


def _print_row(name: str, score: Score, with_faces: Sequence[str]) -> None:
    times = " | ".join(f"{1000 * mean(seconds):.1f}" for seconds in score.seconds.values())
    found = " | ".join(f"{mean(score.hits[group]):.1%}" for group in with_faces)
    total = mean(hit for hits in score.hits.values() for hit in hits)
    cuts = quantiles(score.overlaps, n=20)
    print(f"| {name} | {times} | {total:.1%} | {found} | {score.false} | {cuts[9]:.2f} | {cuts[0]:.2f} |")


def _search_square(picture: Image.Image) -> np.ndarray:
    """Search the picture in the corner of a black square of 640 pixels, as we did before."""
    square, scale = Image.new("RGB", (SIDE, SIDE)), min(1.0, SIDE / max(picture.size))
    square.paste(_scaled(picture, scale))
    return _boxes(square, thoroughly=True) / scale


def _search_small(picture: Image.Image) -> np.ndarray:
    scale = min(1.0, QUICK_SIDE / max(picture.size))
    return _boxes(_scaled(picture, scale)) / scale


def _search_by_opencv(picture: Image.Image) -> np.ndarray:
    scale = min(1.0, SIDE / max(picture.size))
    pixels = np.ascontiguousarray(np.asarray(_scaled(picture, scale))[:, :, ::-1])
    OPENCV.setInputSize(pixels.shape[1::-1])
    _, found = OPENCV.detect(pixels)
    if found is None:
        return np.empty((0, 4))
    return np.concatenate([found[:, :2], found[:, :2] + found[:, 2:4]], axis=1) / scale


def _scaled(picture: Image.Image, scale: float) -> Image.Image:
    size = round(picture.width * scale), round(picture.height * scale)
    return picture.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)


def _boxes(picture: Image.Image, thoroughly: bool = False) -> np.ndarray:
    found = DETECTOR.find_faces(picture, thoroughly=thoroughly)
    return np.array([astuple(face.box) for face in found]).reshape(-1, 4)


cv2.setNumThreads(1)
OPENCV = cv2.FaceDetectorYN_create(str(DETECTOR_WEIGHTS), "", (SIDE, SIDE), MIN_FACE_CONFIDENCE, MAX_OVERLAP)
DETECTOR = FaceDetector.load(threads=1)
WAYS: dict[str, Search] = {
    "640 pixels, in a square": _search_square,
    "640 pixels, by OpenCV": _search_by_opencv,
    "640 pixels (`thorough`)": lambda picture: _boxes(picture, thoroughly=True),
    "320 pixels": _search_small,
    "**320 pixels, then 640**": _boxes,
}


if __name__ == "__main__":
    main()
