"""Detect the faces in a picture, and crop them as FER2013 frames faces.

The detector is YuNet (Wu, Peng and Yu 2023, MIT licence). Its weights lie in yunet/. It runs in onnxruntime, where one
session serves all threads; OpenCV's `FaceDetectorYN` finds the same faces, but one that threads share crashes the
process. A picture is searched at 320 pixels first, which takes a quarter of the time of 640 pixels
(benchmarks/detectors.py).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from dexpression.engine import open_session
from dexpression.errors import DigestMismatch, MissingArtifact
from dexpression.landmarks import Landmarks
from dexpression.picture import Box, Point, to_grey
from dexpression.reading import MIN_FACE_CONFIDENCE
from dexpression.shipped import DETECTOR_WEIGHTS

# Of the file that tests/support/yunet.py makes of OpenCV Zoo's.
WEIGHTS_SHA256 = "1dcfa429b8bb4a42783fb55c2bdce5643d3c848d37369c258ba931bbd6aac595"

SIDE = 640  # pixels of the picture's long side for the detector; at 2560, half of the faces would be missed
QUICK_SIDE = 320  # pixels of it in the first, quick search
# The quick search is enough if all that it finds is certain. The faces that it misses beside others are small; of most
# of them, it has seen something. Of drawn scenes, these bounds lose 0.2 points of the faces (benchmarks/detectors.py).
SMALL_FACE = 24  # pixels in the quick search: the square root of a box's area
POSSIBLE = 0.3  # confidence from which something may be a face
POSSIBLE_SMALL = 0.05  # the same for small faces
# Pixels that neighbouring tiles have in common. What is larger than that may be cut by every tile; in pictures of up to
# 12 megapixels, the whole picture at 640 pixels shows it large enough.
TILE_OVERLAP = 160
STRIDES = (8, 16, 32)  # pixels from one anchor point of YuNet's three grids to the next
MAX_OVERLAP = 0.3  # intersection over union: boxes that overlap more are one face
# A face of a film is searched near its last place, in a square so many times as large as the face, at so many pixels:
# in drawn scenes, 97 % of the faces of the whole picture are found again (benchmarks/README.md).
NEAR_SCALE = 2.5
NEAR_SIDE = 128
MAX_FACES = 64
MAX_FACES_IN_TILES = 512
CROP_SCALE = 1.1  # side of the crop / square root of the box's area: how FER2013 frames a face


class Detected(NamedTuple):
    """N faces as a search detects them."""

    corners: np.ndarray  # (N, 4) in pixels
    points: np.ndarray  # (N, 5, 2) in pixels, in the order of `Landmarks`
    confidence: np.ndarray  # (N,)

    def take(self, chosen: np.ndarray) -> Detected:
        """The faces of these indices or of this mask."""
        return Detected(*(part[chosen] for part in self))

    def move(self, left: float, top: float) -> Detected:
        """The faces of a part of a picture, whose upper left corner this is, in pixels of the picture."""
        corner = np.array([left, top])
        return self._replace(corners=self.corners + np.tile(corner, 2), points=self.points + corner)


@dataclass(frozen=True)
class FoundFace:
    """The box of a detected face, the detection confidence, 0..1, and the landmarks."""

    box: Box
    confidence: float
    landmarks: Landmarks

    @classmethod
    def all_of(cls, detected: Detected) -> list[FoundFace]:
        """The faces of arrays, in their order."""
        return [
            cls(Box(*corners), confidence, Landmarks(*(Point(*point) for point in points)))
            for corners, points, confidence in zip(*(part.tolist() for part in detected), strict=True)
        ]


class FaceDetector:
    """Finds faces in pictures; any number of threads may call it at once."""

    def __init__(self, weights: bytes, min_confidence: float = MIN_FACE_CONFIDENCE, threads: int | None = None) -> None:
        self._session = open_session(weights, threads)
        self._min_confidence = min_confidence
        self._outputs = [f"{name}_{stride}" for name in ("cls", "obj", "bbox", "kps") for stride in STRIDES]

    @classmethod
    def load(cls, min_confidence: float = MIN_FACE_CONFIDENCE, threads: int | None = None) -> FaceDetector:
        """Load the weights that come with the package; raises MissingArtifact or DigestMismatch.

        Faces below `min_confidence`, 0..1, are left out. Each call uses `threads` threads, by default one per core.
        """
        try:
            weights = DETECTOR_WEIGHTS.read_bytes()
        except OSError as error:
            raise MissingArtifact(
                f"The face detector's {DETECTOR_WEIGHTS.name} cannot be read ({error.strerror}). "
                "Install DeXpression again."
            ) from error
        if hashlib.sha256(weights).hexdigest() != WEIGHTS_SHA256:
            raise DigestMismatch(
                f"{DETECTOR_WEIGHTS.name} is not the tested file (SHA-256 differs). Install DeXpression again."
            )
        return cls(weights, min_confidence, threads)

    def find_faces(self, picture: Image.Image, in_tiles: bool = False, thoroughly: bool = False) -> list[FoundFace]:
        """Find the at most 64 largest faces in a picture of mode L or RGB, largest first; an empty list if none.

        `thoroughly`: search at 640 pixels at once, even if 320 pixels are likely to show all faces.
        `in_tiles`: also look at each part of 640x640 pixels by itself, which finds smaller faces, at most 512.
        """
        found = [self._detect(picture, SIDE) if in_tiles or thoroughly else self._detect_quickly(picture)]
        if in_tiles and max(picture.size) > SIDE:
            found += [self._detect_in_tile(picture, left, top) for left, top in tile_corners(picture.size)]
        return _largest_faces(found, picture.size, in_tiles)

    def find_near(self, picture: Image.Image, places: Sequence[Box]) -> list[FoundFace]:
        """Find faces in a picture near these places of at least one face alone, largest first."""
        return _largest_faces([self._detect_near(picture, place) for place in places], picture.size)

    def _detect_quickly(self, picture: Image.Image) -> Detected:
        """Detect faces at 320 pixels; at 640 if there is none, or if there may be others."""
        if max(picture.size) > QUICK_SIDE:
            faces = self._detect(picture, QUICK_SIDE, min(POSSIBLE_SMALL, self._min_confidence))
            corners, confidence = faces.corners, faces.confidence
            small = np.sqrt(_area(corners)) * QUICK_SIDE / max(picture.size) < SMALL_FACE
            certain = confidence >= self._min_confidence
            possible = ~certain & (small | (confidence >= POSSIBLE))
            if certain.any() and not small[certain].any() and _overlap_all(corners[possible], corners[certain]):
                return faces.take(certain)
        return self._detect(picture, SIDE)

    def _detect(self, picture: Image.Image, side: int, min_confidence: float | None = None) -> Detected:
        """Detect faces in a picture whose long side is scaled down to `side` pixels."""
        scale = min(1.0, side / max(picture.size))
        pixels = _to_input(picture, scale)
        outputs = self._session.run(self._outputs, {"input": pixels})
        maps = {name: output[0] for name, output in zip(self._outputs, outputs, strict=True)}
        least = self._min_confidence if min_confidence is None else min_confidence
        faces = _join([_decode(maps, stride, pixels.shape[3] // stride, least) for stride in STRIDES])
        return faces._replace(corners=faces.corners / scale, points=faces.points / scale)

    def _detect_near(self, picture: Image.Image, place: Box) -> Detected:
        square = face_square(place, *picture.size, NEAR_SCALE)
        left, top = math.floor(square.left), math.floor(square.top)
        part = picture.crop((left, top, math.ceil(square.right), math.ceil(square.bottom)))
        return self._detect(part, NEAR_SIDE).move(left, top)

    def _detect_in_tile(self, picture: Image.Image, left: int, top: int) -> Detected:
        """Detect the faces in one tile, without those that its edges cut: the neighbouring tile shows more of them."""
        right, bottom = min(left + SIDE, picture.width), min(top + SIDE, picture.height)
        faces = self._detect(picture.crop((left, top, right, bottom)), SIDE).move(left, top)
        # At the edges of the picture, a face may reach beyond.
        least = np.array([left or -np.inf, top or -np.inf])
        most = np.where(np.array([right, bottom]) < picture.size, [right, bottom], np.inf)
        whole: np.ndarray = np.all((faces.corners[:, :2] > least) & (faces.corners[:, 2:] < most), axis=1)
        return faces.take(whole)


def tile_corners(size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """The upper left corners of the tiles that cover a picture of this size, in pixels."""
    for top in _tile_starts(size[1]):
        for left in _tile_starts(size[0]):
            yield left, top


def _tile_starts(length: int) -> list[int]:
    """Where tiles begin along a side: as few as possible, at equal distances."""
    count = max(1, -(-(length - TILE_OVERLAP) // (SIDE - TILE_OVERLAP)))
    return [round(number * (length - SIDE) / (count - 1)) for number in range(count)] if count > 1 else [0]


def crop_face(picture: Image.Image, box: Box, size: int) -> Image.Image:
    """Crop the square of a face, see `face_square`, as grey `size` x `size` pixels."""
    square = face_square(box, *picture.size)
    corners = (square.left, square.top, square.right, square.bottom)
    return to_grey(picture.resize((size, size), Image.Resampling.BILINEAR, box=corners))


def face_square(box: Box, width: int, height: int, scale: float = CROP_SCALE) -> Box:
    """The square around the centre of a box that is cropped, kept inside a picture of this size."""
    side = min(scale * box.area**0.5, width, height)
    left = _inside((box.left + box.right - side) / 2, width - side)
    top = _inside((box.top + box.bottom - side) / 2, height - side)
    return Box(left, top, left + side, top + side)


def _inside(position: float, largest: float) -> float:
    return min(max(position, 0.0), largest)


def _to_input(picture: Image.Image, scale: float) -> np.ndarray:
    """Scale a picture, and fill it up with black at the right and the bottom, so that all strides divide its sides.

    Returns (1, 3, height, width), channels BGR, 0..255.
    """
    width, height = (max(1, round(side * scale)) for side in picture.size)
    if picture.size != (width, height):
        # Averaging whole squares of pixels first is faster, and as many faces are found.
        picture = picture.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=1.0)
    whole = STRIDES[-1]
    pixels = np.zeros((1, 3, -(-height // whole) * whole, -(-width // whole) * whole), np.float32)
    pixels[0, :, :height, :width] = np.asarray(picture.convert("RGB")).transpose(2, 0, 1)[::-1]
    return pixels


def _decode(maps: dict[str, np.ndarray], stride: int, columns: int, min_confidence: float) -> Detected:
    """Decode one grid of YuNet's outputs into faces.

    For each anchor point, YuNet gives a confidence, the offsets of the box's centre and of five points from it in
    strides, and the logarithm of the box's size in strides. `columns` is the number of anchor points in a row.
    """
    confidence = np.sqrt(maps[f"cls_{stride}"].clip(0, 1) * maps[f"obj_{stride}"].clip(0, 1))[:, 0]
    chosen = np.flatnonzero(confidence >= min_confidence)
    anchors = np.stack(np.divmod(chosen, columns)[::-1], axis=1)  # across, down
    boxes, points = maps[f"bbox_{stride}"][chosen], maps[f"kps_{stride}"][chosen].reshape(-1, 5, 2)
    centre = (anchors + boxes[:, :2]) * stride
    half = np.exp(boxes[:, 2:]) * stride / 2
    corners = np.concatenate([centre - half, centre + half], axis=1)
    return Detected(corners, (anchors[:, None] + points) * stride, confidence[chosen])


def _join(parts: Sequence[Detected]) -> Detected:
    return Detected(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _largest_faces(found: Sequence[Detected], size: tuple[int, int], in_tiles: bool = False) -> list[FoundFace]:
    """The faces of several searches in a picture of this size, each once, largest first."""
    faces = _join(found)
    faces = faces._replace(corners=faces.corners.clip(0, [*size, *size]))
    faces = faces.take(_suppress_overlaps(faces.corners, faces.confidence))
    if in_tiles:
        faces = faces.take(np.array([not _is_part(one, faces.corners) for one in faces.corners], bool))
    most = MAX_FACES_IN_TILES if in_tiles else MAX_FACES
    return FoundFace.all_of(faces.take(np.argsort(-_area(faces.corners), kind="stable")[:most]))


def _suppress_overlaps(corners: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """Indices of the boxes that remain when, of overlapping boxes, only the most confident is kept."""
    candidates = np.argsort(-confidence, kind="stable")
    candidates = candidates[_area(corners[candidates]) > 0]
    kept = []
    while candidates.size:
        kept.append(candidates[0])
        candidates = candidates[overlap(corners[candidates[0]], corners[candidates]) <= MAX_OVERLAP]
    return np.array(kept, dtype=int)


def _overlap_all(corners: np.ndarray, faces: np.ndarray) -> bool:
    """Whether each of the boxes (N, 4) is one face with one of the faces (M, 4)."""
    for face in faces:
        corners = corners[overlap(face, corners) <= MAX_OVERLAP]
    return not corners.size


def _is_part(one: np.ndarray, others: np.ndarray) -> bool:
    """Whether most of a box (4,) lies in a larger one of the others (N, 4), such as an eye in a face."""
    larger = others[_area(others) > _area(one[None])]
    return bool((_area(_shared(one, larger)) > 0.5 * _area(one[None])).any())


def _shared(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """What a box (4,) has in common with each of the others (N, 4), as corners (N, 4)."""
    return np.concatenate([np.maximum(one[:2], others[:, :2]), np.minimum(one[2:], others[:, 2:])], axis=1)


def overlap(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union, 0..1, of one box (4,) with each of the others (N, 4)."""
    shared = _area(_shared(one, others))
    share: np.ndarray = shared / (_area(one[None]) + _area(others) - shared)
    return share


def _area(corners: np.ndarray) -> np.ndarray:
    area: np.ndarray = (corners[:, 2:] - corners[:, :2]).clip(0).prod(axis=1)
    return area
