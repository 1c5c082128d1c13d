"""Pictures as poor cameras and poor light show them, to score a model under each condition."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from dexpression.labels import ReadingName
from dexpression.picture import Box
from dexpression.prediction import FaceClassifier
from dexpression.training.crops import FaceCropper
from dexpression.training.evaluation import predict_crops
from dexpression.training.face_set import CropDetect, Face

Z = 1.96  # deviations of a normal distribution that hold 95 %
CHUNK = 256  # faces that are changed at once
# A picture of mode L or RGB and the square of its face in it -> the picture under a condition, of the same mode.
Condition = Callable[[Image.Image, Box], Image.Image]


def _blurred(share: float) -> Condition:
    """Gaussian blur whose deviation is this share of the face's side."""
    return lambda picture, face: picture.filter(ImageFilter.GaussianBlur(share * (face.right - face.left)))


def _scaled(side: int) -> Condition:
    """So small that the face has this many pixels a side, or as it is if it has fewer."""

    def scale(picture: Image.Image, face: Box) -> Image.Image:
        factor = min(1.0, side / (face.right - face.left))
        width, height = (max(1, round(factor * length)) for length in picture.size)
        return picture.resize((width, height), Image.Resampling.BOX)

    return scale


def _toned(scale: float, offset: float) -> Condition:
    tones = [min(255, round(scale * value + offset)) for value in range(256)]
    return lambda picture, _: picture.point(tones * len(picture.getbands()))


def _compressed(quality: int) -> Condition:
    def compress(picture: Image.Image, _face: Box) -> Image.Image:
        content = io.BytesIO()
        picture.save(content, "JPEG", quality=quality)
        return Image.open(content)

    return compress


def _noisy(deviation: float) -> Condition:
    """The noise of a sensor; a picture always gets the same."""

    def add_noise(picture: Image.Image, _face: Box) -> Image.Image:
        pixels = np.asarray(picture, dtype=float)
        noise = np.random.default_rng(int(pixels.sum())).normal(0, deviation, pixels.shape)
        return Image.fromarray(np.rint(pixels + noise).clip(0, 255).astype(np.uint8))

    return add_noise


def _turned(degrees: float) -> Condition:
    """Turned around the centre of the face; what comes in from outside repeats the pixels of the border."""

    def turn(picture: Image.Image, face: Box) -> Image.Image:
        margin = max(picture.size) // 2
        padding = [(margin, margin)] * 2 + [(0, 0)] * (len(picture.getbands()) > 1)
        padded = Image.fromarray(np.pad(np.asarray(picture), padding, mode="edge"))
        centre = ((face.left + face.right) / 2 + margin, (face.top + face.bottom) / 2 + margin)
        turned = padded.rotate(degrees, Image.Resampling.BICUBIC, center=centre)
        return turned.crop((margin, margin, margin + picture.width, margin + picture.height))

    return turn


def _covered(top: float, bottom: float, grey: int) -> Condition:
    """The rows between two shares of the face's height in one grey, but for a tenth of its width at each side."""

    def cover(picture: Image.Image, face: Box) -> Image.Image:
        covered, side = picture.copy(), face.right - face.left
        left, right = round(face.left + 0.1 * side), round(face.left + 0.9 * side)
        rows = round(face.top + top * side), round(face.top + bottom * side)
        covered.paste((grey,) * len(picture.getbands()), (left, rows[0], right, rows[1]))
        return covered

    return cover


CLEAN = "as they are"
CONDITIONS: dict[str, Condition] = {
    "blurred, deviation 1/64 of the side": _blurred(1 / 64),
    "blurred, 1/32": _blurred(1 / 32),
    "blurred, 1/20": _blurred(1 / 20),
    "32x32 pixels": _scaled(32),
    "24x24 pixels": _scaled(24),
    "16x16 pixels": _scaled(16),
    "dark, a quarter of the light": _toned(0.25, 0),
    "bright, half of the range": _toned(0.5, 127),
    "contrast 0.3": _toned(0.3, 89),
    "JPEG quality 30": _compressed(30),
    "JPEG quality 10": _compressed(10),
    "noise, deviation 0.06": _noisy(15),
    "turned by 15 degrees": _turned(15),
    "turned by 30 degrees": _turned(30),
    "lower face covered": _covered(0.58, 1.0, 200),
    "eyes covered": _covered(0.2, 0.42, 30),
}

BRIGHTNESS = np.linspace(0.3, 1.7, 20)  # factors of all pixels


@dataclass(frozen=True)
class Share:
    """A share 0..1 of `n` faces, with its 95 % interval (Wilson 1927)."""

    n: int
    share: float
    lower: float
    upper: float

    @classmethod
    def of(cls, hits: Sequence[bool]) -> Share:
        return cls.of_count(float(np.mean(hits)), len(hits))

    @classmethod
    def of_count(cls, share: float, n: int) -> Share:
        """The share of `n` faces with its interval."""
        middle, spread = share + Z**2 / (2 * n), Z * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
        lower, upper = (middle - spread) / (1 + Z**2 / n), (middle + spread) / (1 + Z**2 / n)
        return cls(n, share, max(0.0, lower), min(1.0, upper))  # rounding may leave the range


@dataclass(frozen=True)
class Robustness:
    """The accuracy of a model on faces as they are and under each condition, on the same faces.

    A face that is not found in its picture counts as wrong. `found` is the share of faces that are found, 0..1.
    """

    clean: Share
    conditions: dict[str, Share]
    found: dict[str, float]
    flips: Share  # faces whose answer changes while their brightness goes from 0.3 to 1.7 in 20 steps

    @property
    def mean(self) -> float:
        """The mean accuracy over the conditions, 0..1."""
        return float(np.mean([share.share for share in self.conditions.values()]))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"mean": self.mean}

    def table(self) -> str:
        """Format one line per condition."""
        width = max(map(len, self.conditions))
        with_found = min(self.found.values()) < 1
        rows = [
            f"{name:{width}}  {share.share:.4f}  {share.lower:.3f} to {share.upper:.3f}"
            + (f"   {self.found[name]:.4f}" if with_found else "")
            for name, share in {CLEAN: self.clean, **self.conditions}.items()
        ]
        return "\n".join(
            [
                f"{'n = ' + str(self.clean.n):{width}}  accuracy  95 % interval" + "  found" * with_found,
                *rows,
                f"{'mean of the conditions':{width}}  {self.mean:.4f}",
                f"{'answer changes with brightness':{width}}  {self.flips.share:.4f}  "
                f"{self.flips.lower:.3f} to {self.flips.upper:.3f}",
            ]
        )


def evaluate_conditions(
    classifier: FaceClassifier,
    faces: Sequence[Face],
    labels: Sequence[str],
    reading: ReadingName | None = None,
    detect: CropDetect = "auto",
) -> Robustness:
    """Score a reading of a model on these faces under all conditions, as if `labels` were the only ones.

    A face of a larger picture is detected again in the whole picture under each condition, as `detect` says.
    """
    cropper = FaceCropper(classifier.image_size, detect)
    brightness = [_toned(scale, 0) for scale in BRIGHTNESS]
    changes = [lambda picture, _: picture, *CONDITIONS.values(), *brightness]
    answers = [
        found
        for start in range(0, len(faces), CHUNK)
        for found in _answers(classifier, faces[start : start + CHUNK], changes, labels, reading, cropper)
    ]  # faces x changes
    names = [CLEAN, *CONDITIONS]
    right = np.array([[label == face.label for label in row] for row, face in zip(answers, faces, strict=True)])
    accuracy = {name: Share.of(right[:, place].tolist()) for place, name in enumerate(names)}
    return Robustness(
        clean=accuracy.pop(CLEAN),
        conditions=accuracy,
        found={name: float(np.mean([row[place] is not None for row in answers])) for place, name in enumerate(names)},
        flips=Share.of([len(set(row[len(names) :])) > 1 for row in answers]),
    )


def _answers(
    classifier: FaceClassifier,
    faces: Sequence[Face],
    changes: Sequence[Condition],
    labels: Sequence[str],
    reading: ReadingName | None,
    cropper: FaceCropper,
) -> list[list[str | None]]:
    """The answer to each face under each change: None where no face is found."""
    crops = [
        [located.crop(change(located.image, located.square)) for change in changes]
        for located in map(cropper.locate, faces)
    ]
    found = [crop for row in crops for crop in row if crop]
    predictions = predict_crops(classifier, found, reading)
    return [[next(predictions).among(labels).emotion if crop else None for crop in row] for row in crops]
