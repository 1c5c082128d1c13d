"""Compare the face detector in onnxruntime with OpenCV's: `pipenv run python -W ignore -m benchmarks.detectors`.

Both run the same weights on the same portrait in turn, so that other load on the machine affects both; quote the ratio.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import cv2
import numpy as np
from PIL import Image
from skimage.data import astronaut

from dexpression.faces import MAX_OVERLAP, MIN_FACE_CONFIDENCE, SIDE, FaceDetector
from dexpression.shipped import DETECTOR_WEIGHTS

SIZES = ((320, 240), (640, 480), (1280, 960))  # pixels
ROUNDS = 50


def main() -> None:
    """Print a table of milliseconds a picture; both include scaling the picture to 640 pixels."""
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


OPENCV = cv2.FaceDetectorYN_create(str(DETECTOR_WEIGHTS), "", SIZES[0], MIN_FACE_CONFIDENCE, MAX_OVERLAP)


def _measure(picture: Image.Image, *functions: Callable[[Image.Image], object]) -> list[float]:
    """Measure the functions in turn, and return the median milliseconds of each."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(ROUNDS):
        for function, own_times in zip(functions, times, strict=True):
            start = time.perf_counter()
            function(picture)
            own_times.append(1000 * (time.perf_counter() - start))
    return [median(own_times) for own_times in times]


if __name__ == "__main__":
    main()
