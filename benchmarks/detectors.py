"""The face detector in onnxruntime beside OpenCV's: `PYTHONPATH=. pipenv run python benchmarks/detectors.py`.

Both run the same weights on the same portrait, in turn, so that a busy machine is busy for both; quote the ratio.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import cv2
import numpy as np
from PIL import Image
from skimage.data import astronaut

from dexpression.faces import MAX_OVERLAP, MIN_FACE_CONFIDENCE, SIDE, FaceDetector, find_weights

SIZES = ((320, 240), (640, 480), (1280, 960))  # pixels
ROUNDS = 50


def main() -> None:
    """Print a table of milliseconds a picture, the picture's scaling to 640 pixels included for both."""
    detector = FaceDetector.load()
    print("| picture | onnxruntime | OpenCV | ratio |\n|---|---|---|---|")
    for size in SIZES:
        picture = Image.fromarray(astronaut()).resize(size)
        ours, theirs = _measure(picture, detector.find_faces, _find_by_opencv)
        print(f"| {size[0]}x{size[1]} | {ours:.1f} | {theirs:.1f} | {ours / theirs:.2f} |")


def _find_by_opencv(picture: Image.Image) -> None:
    scale = min(1.0, SIDE / max(picture.size))
    size = (round(picture.width * scale), round(picture.height * scale))
    pixels = np.ascontiguousarray(np.asarray(picture.resize(size, reducing_gap=2.0))[:, :, ::-1])
    OPENCV.setInputSize(size)
    _, found = OPENCV.detect(pixels)
    assert len(found) == 1


OPENCV = cv2.FaceDetectorYN_create(str(find_weights()), "", SIZES[0], MIN_FACE_CONFIDENCE, MAX_OVERLAP)


def _measure(picture: Image.Image, *ways: Callable[[Image.Image], object]) -> list[float]:
    """The median milliseconds of each, taken in turn."""
    taken: list[list[float]] = [[] for _ in ways]
    for _ in range(ROUNDS):
        for way, times in zip(ways, taken, strict=True):
            start = time.perf_counter()
            way(picture)
            times.append(1000 * (time.perf_counter() - start))
    return [median(times) for times in taken]


if __name__ == "__main__":
    main()
