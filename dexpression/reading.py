"""What was read off a picture: its faces, and the emotion on each. The same for HTTP, command line and Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from dexpression.errors import UnknownLabels
from dexpression.picture import Box

Detect = Literal["auto", "always", "never"]  # auto: find faces, but take a picture of 64x64 or less as one

MIN_FACE_CONFIDENCE = 0.7  # OpenCV's default of 0.9 loses tilted and dim faces
UNKNOWN = "UNKNOWN"  # in place of an emotion whose confidence is below what the caller asked for


@dataclass(frozen=True)
class Prediction:
    """One face: a probability 0..1 for every label, summing to 1."""

    probabilities: dict[str, float]

    @property
    def emotion(self) -> str:
        return max(self.probabilities, key=self.probabilities.__getitem__)

    @property
    def confidence(self) -> float:
        """The probability of `emotion`, 0..1."""
        return self.probabilities[self.emotion]

    def among(self, labels: Sequence[str]) -> Prediction:
        """The same prediction, were these the only labels; UnknownLabels where the model lacks one of them."""
        missing = [label for label in labels if label not in self.probabilities]
        if missing:
            known = ", ".join(self.probabilities)
            raise UnknownLabels(f"The model knows no {', '.join(missing)}. Choose among {known}.")
        chosen = {label: self.probabilities[label] for label in labels}
        total = sum(chosen.values())
        return Prediction({label: value / total for label, value in chosen.items()})

    def to_dict(self, min_confidence: float = 0.0) -> dict[str, Any]:
        return {
            "result": self.emotion if self.confidence >= min_confidence else UNKNOWN,
            "confidence": _rounded(self.confidence),
            "probabilities": {label: _rounded(value) for label, value in self.probabilities.items()},
        }


@dataclass(frozen=True)
class FaceReading:
    """One face of a picture; without a detection confidence, the picture was taken as one face."""

    box: Box
    detection_confidence: float | None
    prediction: Prediction

    def to_dict(self, min_confidence: float = 0.0) -> dict[str, Any]:
        left, top = round(self.box.left), round(self.box.top)
        box = {"x": left, "y": top, "width": round(self.box.right) - left, "height": round(self.box.bottom) - top}
        sure = None if self.detection_confidence is None else _rounded(self.detection_confidence)
        return {"box": box, "detection_confidence": sure} | self.prediction.to_dict(min_confidence)


@dataclass(frozen=True)
class Reading:
    """All faces of a picture, largest first; `width` and `height` are the upright picture's, in pixels.

    `whole` is the prediction of the whole picture as one face, where none was found and the caller wants one still.
    """

    width: int
    height: int
    faces: list[FaceReading]
    whole: Prediction | None = None

    @property
    def prediction(self) -> Prediction | None:
        """Of the largest face, or else of the whole picture; None where neither is there."""
        return self.faces[0].prediction if self.faces else self.whole

    @property
    def emotion(self) -> str | None:
        """Of the same; None where neither is there."""
        return self.prediction.emotion if self.prediction else None

    def among(self, labels: Sequence[str]) -> Reading:
        """The same reading, were these the only labels; UnknownLabels where the model lacks one of them."""
        faces = [replace(face, prediction=face.prediction.among(labels)) for face in self.faces]
        return replace(self, faces=faces, whole=self.whole and self.whole.among(labels))

    def to_dict(self, min_confidence: float = 0.0) -> dict[str, Any]:
        """As JSON takes it: the answer of `prediction`, nulls where there is none; every face; the picture's size."""
        nothing = {"result": None, "confidence": None, "probabilities": None}
        return (self.prediction.to_dict(min_confidence) if self.prediction else nothing) | {
            "faces": [face.to_dict(min_confidence) for face in self.faces],
            "image": {"width": self.width, "height": self.height},
        }


def _rounded(share: float) -> float:
    return round(share, 6)  # float32 has no more to say
