"""Faces as poor cameras and poor light show them, to score a model under each condition."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from dexpression.labels import ReadingName
from dexpression.prediction import FaceClassifier
from dexpression.training.evaluation import predict_faces
from dexpression.training.sources import Face

Z = 1.96  # deviations of a normal distribution that hold 95 %
Condition = Callable[[Image.Image], Image.Image]  # a grey face -> the same face under a condition


def _blurred(share: float) -> Condition:
    """Gaussian blur whose deviation is this share of the side."""
    return lambda face: face.filter(ImageFilter.GaussianBlur(share * face.width))


def _scaled(side: int) -> Condition:
    """So many pixels a side; the classifier scales it up again."""
    return lambda face: face.resize((side, side), Image.Resampling.BOX)


def _toned(scale: float, offset: float) -> Condition:
    return lambda face: face.point([min(255, round(scale * value + offset)) for value in range(256)])


def _compressed(quality: int) -> Condition:
    def compress(face: Image.Image) -> Image.Image:
        content = io.BytesIO()
        face.save(content, "JPEG", quality=quality)
        return Image.open(content)

    return compress


def _noisy(deviation: float) -> Condition:
    """The noise of a sensor; a face always gets the same."""

    def add_noise(face: Image.Image) -> Image.Image:
        pixels = np.asarray(face, dtype=float)
        noise = np.random.default_rng(int(pixels.sum())).normal(0, deviation, pixels.shape)
        return Image.fromarray(np.rint(pixels + noise).clip(0, 255).astype(np.uint8))

    return add_noise


def _turned(degrees: float) -> Condition:
    """Turned around the centre; what comes in from outside repeats the pixels of the border."""

    def turn(face: Image.Image) -> Image.Image:
        margin = face.width // 2
        padded = Image.fromarray(np.pad(np.asarray(face), margin, mode="edge"))
        turned = padded.rotate(degrees, Image.Resampling.BICUBIC)
        return turned.crop((margin, margin, margin + face.width, margin + face.height))

    return turn


def _covered(top: float, bottom: float, grey: int) -> Condition:
    """The rows between two shares of the height in one grey, but for a tenth of the width at each side."""

    def cover(face: Image.Image) -> Image.Image:
        covered = face.copy()
        left, right = round(0.1 * face.width), round(0.9 * face.width)
        covered.paste(grey, (left, round(top * face.height), right, round(bottom * face.height)))
        return covered

    return cover


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
        n, share = len(hits), float(np.mean(hits))
        middle, spread = share + Z**2 / (2 * n), Z * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
        return cls(n, share, (middle - spread) / (1 + Z**2 / n), (middle + spread) / (1 + Z**2 / n))


@dataclass(frozen=True)
class Robustness:
    """The accuracy of a model on faces as they are and under each condition, on the same faces."""

    clean: Share
    conditions: dict[str, Share]
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
        rows = [
            f"{name:{width}}  {share.share:.4f}  {share.lower:.3f} to {share.upper:.3f}"
            for name, share in {"as they are": self.clean, **self.conditions}.items()
        ]
        return "\n".join(
            [
                f"{'n = ' + str(self.clean.n):{width}}  accuracy  95 % interval",
                *rows,
                f"{'mean of the conditions':{width}}  {self.mean:.4f}",
                f"{'answer changes with brightness':{width}}  {self.flips.share:.4f}  "
                f"{self.flips.lower:.3f} to {self.flips.upper:.3f}",
            ]
        )


def evaluate_conditions(
    classifier: FaceClassifier, faces: Sequence[Face], labels: Sequence[str], reading: ReadingName | None = None
) -> Robustness:
    """Score a reading of a model on these faces under all conditions, as if `labels` were the only ones."""

    def answers(condition: Condition) -> list[str]:
        changed = [replace(face, image=condition(face.image)) for face in faces]
        return [found.among(labels).emotion for found in predict_faces(classifier, changed, reading)]

    def accuracy(condition: Condition) -> Share:
        return Share.of([found == face.label for found, face in zip(answers(condition), faces, strict=True)])

    by_brightness = zip(*(answers(_toned(scale, 0)) for scale in BRIGHTNESS), strict=True)
    return Robustness(
        clean=accuracy(lambda face: face),
        conditions={name: accuracy(condition) for name, condition in CONDITIONS.items()},
        flips=Share.of([len(set(found)) > 1 for found in by_brightness]),
    )
