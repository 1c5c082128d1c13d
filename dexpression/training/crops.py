"""Crop the face out of a labelled picture, exactly as a prediction does it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from dexpression.errors import PictureError
from dexpression.faces import CROP_SCALE, WEIGHTS_SHA256, FaceDetector, FoundFace, crop_face, face_square
from dexpression.files import read_picture_file
from dexpression.picture import Box, frame_face, load_picture
from dexpression.prediction import is_one_face
from dexpression.training.face_set import CropDetect, Face

LIKE_SIZE = 0.7  # share of the largest face's area from which another face may be the one that the label means


class NoFace(PictureError):
    """The picture shows no face."""


class Crop(NamedTuple):
    """The grey, square crop of a face, and what makes it uncertain that this is the face that the label means."""

    image: Image.Image
    doubt: str | None = None


class Located(NamedTuple):
    """A picture, the square of its face, and what crops the face again when the picture has been changed."""

    image: Image.Image
    square: Box
    crop: Callable[[Image.Image], Image.Image | None]


class FaceCropper:
    """Crops the largest face of pictures to `size` x `size` pixels.

    `detect` is that of `Predictor.predict`. With a folder `cache`, crops are kept there, so that a second run detects
    no faces.
    """

    def __init__(self, size: int, detect: CropDetect = "auto", cache: Path | None = None) -> None:
        self.size, self.detect, self.cache = size, detect, cache

    @cached_property
    def detector(self) -> FaceDetector:
        """The face detector, which is loaded for the first picture that needs it."""
        return FaceDetector.load()

    def crop(self, content: bytes) -> Crop:
        """Crop the face of a picture, given by its bytes; raises PictureError.

        A picture without a face is taken whole, as `POST /` does it, or raises NoFace if `detect` is `always`.
        """
        picture = load_picture(content)
        if is_one_face(picture, self.detect):
            return Crop(frame_face(picture.image, self.size))
        kept = self._kept(content)
        if kept and (image := _read(kept)):
            return Crop(image)
        found = self.detector.find_faces(picture.image)
        if not found and self.detect == "always":
            raise NoFace("No face was found in the picture.")
        if not found:
            return Crop(frame_face(picture.image, self.size), "no face was found in it, so it was taken whole")
        image = crop_face(picture.image, found[0].box, self.size)
        if _is_ambiguous(found):
            return Crop(image, "it has several faces of like size, of which the largest was taken")
        if kept:
            _write(image, kept)
        return Crop(image)

    def locate(self, face: Face) -> Located:
        """Find a labelled face again in the picture that it was cropped from; raises PictureError."""
        if face.path:
            picture = load_picture(read_picture_file(face.path, follow_links=False))
            found = [] if is_one_face(picture, self.detect) else self.detector.find_faces(picture.image)
            if found:
                image = picture.image
                return Located(image, face_square(found[0].box, *image.size), self.crop_largest)
        side = face.image.width
        return Located(face.image, Box(0, 0, side, side), lambda image: frame_face(image, self.size))

    def crop_largest(self, image: Image.Image) -> Image.Image | None:
        """Crop the largest face of a picture of mode L or RGB; None if no face is found."""
        found = self.detector.find_faces(image)
        return crop_face(image, found[0].box, self.size) if found else None

    def _kept(self, content: bytes) -> Path | None:
        """The file of a crop, named after all that decides its pixels; None without a cache."""
        if self.cache is None:
            return None
        facts = repr((self.size, WEIGHTS_SHA256, CROP_SCALE)).encode()
        digest = hashlib.sha256(facts + content).hexdigest()
        return self.cache / digest[:2] / f"{digest[2:34]}.png"


def _read(path: Path) -> Image.Image | None:
    """The image in a file of ours; None if it is not there or damaged."""
    try:
        with Image.open(path) as image:
            image.load()
            return image.copy()
    except Exception:  # decoders raise nearly anything on damaged bytes
        return None


def _write(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")  # a run may stop here, and another one may read
    image.save(partial, "PNG")
    partial.replace(path)


def _is_ambiguous(found: list[FoundFace]) -> bool:
    return len(found) > 1 and found[1].box.area >= LIKE_SIZE * found[0].box.area
