"""Readings of pictures and predictions of faces: the same for HTTP, the command line and Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from dexpression.errors import UnknownDetection, UnknownLabels
from dexpression.labels import UNKNOWN, ReadingName, list_labels
from dexpression.landmarks import Landmarks
from dexpression.picture import MIN_SHORT_SIDE, Box

# auto: detect faces, but treat a picture of at most 64x64 pixels as one face. always: detect faces in any picture.
# never: treat the centred square as one face. thorough: as always, but without a quick search first. tiles: thorough,
# and in each part of the picture by itself.
Detect = Literal["auto", "always", "never", "thorough", "tiles"]
# Pixels that the shorter side keeps for tiles. A picture of 12 megapixels keeps all, and its tiles are 48.
MIN_TILED_SIDE = 2000

EVERY_SECONDS = 0.1  # from one frame of a film that is read to the next, unless the caller chooses
EVIDENCE_DIGITS = 4  # after the point, so that the mean of a map is exact to 1e-4
MIN_FACE_CONFIDENCE = 0.7  # OpenCV's default of 0.9 loses tilted and dim faces


def min_short_side(detect: Detect) -> int:
    """The pixels that the shorter side of a picture keeps, for this way to detect faces; raises UnknownDetection."""
    if detect not in get_args(Detect):
        raise UnknownDetection(f"There is no detect={detect!r}. Choose from {', '.join(get_args(Detect))}.")
    return MIN_TILED_SIDE if detect == "tiles" else MIN_SHORT_SIDE


Grid = list[list[float]]  # rows from the top, each from the left


@dataclass(frozen=True)
class Prediction:
    """The prediction for one face: a probability 0..1 for each label, which sum to 1.

    `evidence`, if the caller asked for it, has a map for each label: at each place of the face, a number above 0 speaks
    for the label, one below 0 against it. The softmax of the means of all maps is the probabilities.
    """

    probabilities: dict[str, float]
    evidence: dict[str, Grid] | None = None

    @property
    def emotion(self) -> str:
        """The most probable label."""
        return max(self.probabilities, key=self.probabilities.__getitem__)

    @property
    def confidence(self) -> float:
        """The probability of `emotion`, 0..1."""
        return self.probabilities[self.emotion]

    def among(self, labels: Sequence[str]) -> Prediction:
        """The prediction among `labels` alone, scaled to sum to 1; raises UnknownLabels if the model lacks one.

        All get the same share if the probability of each is 0.
        """
        missing = [label for label in labels if label not in self.probabilities]
        if missing:
            known = list_labels(list(self.probabilities))
            raise UnknownLabels(f"The model does not know {list_labels(missing)}. Choose from {known}.")
        chosen = {label: self.probabilities[label] for label in labels}
        total = sum(chosen.values())
        shares = {label: value / total if total else 1 / len(chosen) for label, value in chosen.items()}
        return Prediction(shares, self.evidence and {label: self.evidence[label] for label in labels})

    def with_evidence_of_answer(self) -> Prediction:
        """The prediction with the evidence for its most probable label alone."""
        return replace(self, evidence=self.evidence and {self.emotion: self.evidence[self.emotion]})

    def result(self, min_confidence: float = 0.0) -> str:
        """The most probable label, or UNKNOWN if its confidence is below `min_confidence`, 0..1."""
        return self.emotion if self.confidence >= min_confidence else UNKNOWN

    def to_dict(self, min_confidence: float = 0.0) -> dict[str, Any]:
        """Result, confidence and probabilities for JSON."""
        return {
            "result": self.result(min_confidence),
            "confidence": _rounded(self.confidence),
            "probabilities": {label: _rounded(value) for label, value in self.probabilities.items()},
        }


@dataclass(frozen=True)
class FaceReading:
    """One face of a picture.

    The detection confidence and the landmarks are None if the whole picture was treated as one face. `crop` is the
    square around `box` that the network saw, and that the maps of the prediction's evidence cover.
    """

    box: Box
    detection_confidence: float | None
    prediction: Prediction
    crop: Box | None = None
    landmarks: Landmarks | None = None

    @property
    def roll(self) -> float | None:
        """How far the face is turned in the picture; see `Landmarks.roll`. None without landmarks."""
        return self.landmarks.roll if self.landmarks else None

    def to_dict(self, min_confidence: float = 0.0) -> dict[str, Any]:
        """Box, detection confidence, landmarks, roll, prediction and, if there is any, evidence for JSON."""
        detection = None if self.detection_confidence is None else _rounded(self.detection_confidence)
        points = self.landmarks and self.landmarks.to_dict()
        roll = None if self.roll is None else round(self.roll, 1) + 0.0  # which turns -0.0 into 0.0
        place = {"box": self.box.to_dict(), "detection_confidence": detection, "landmarks": points, "roll": roll}
        return place | self.prediction.to_dict(min_confidence) | self._describe_evidence()

    def _describe_evidence(self) -> dict[str, Any]:
        if not (self.prediction.evidence and self.crop):
            return {}
        maps = {
            label: [[round(value, EVIDENCE_DIGITS) for value in row] for row in grid]
            for label, grid in self.prediction.evidence.items()
        }
        return {"evidence": {"box": self.crop.to_dict(), "maps": maps}}


@dataclass(frozen=True)
class Reading:
    """All faces of a picture, largest first. `width` and `height` are the upright picture's size in pixels.

    `name` says what the predictions follow: people or labels. `whole` is the prediction for the whole picture as one
    face, if no face was found and the caller asked for it.
    """

    width: int
    height: int
    faces: list[FaceReading]
    name: ReadingName
    whole: Prediction | None = None

    @property
    def prediction(self) -> Prediction | None:
        """The prediction for the largest face, or else for the whole picture; None if there is neither."""
        return self.faces[0].prediction if self.faces else self.whole

    @property
    def emotion(self) -> str | None:
        """The emotion of `prediction`; None if there is no prediction."""
        return self.prediction.emotion if self.prediction else None

    def result(self, min_confidence: float = 0.0) -> str | None:
        """The result of `prediction`; None if there is no prediction."""
        return self.prediction.result(min_confidence) if self.prediction else None

    def among(self, labels: Sequence[str]) -> Reading:
        """The reading with all predictions among `labels` alone; raises UnknownLabels if the model lacks one."""
        faces = [replace(face, prediction=face.prediction.among(labels)) for face in self.faces]
        return replace(self, faces=faces, whole=self.whole and self.whole.among(labels))

    def with_evidence_of_answers(self) -> Reading:
        """The reading with the evidence for the most probable label of each face alone."""
        faces = [replace(face, prediction=face.prediction.with_evidence_of_answer()) for face in self.faces]
        return replace(self, faces=faces)

    def to_dict(self, min_confidence: float = 0.0) -> dict[str, Any]:
        """The reading for JSON: `prediction`, or nulls if there is none; every face; the picture's size."""
        nothing = {"result": None, "confidence": None, "probabilities": None}
        return (self.prediction.to_dict(min_confidence) if self.prediction else nothing) | {
            "reading": self.name,
            "faces": [face.to_dict(min_confidence) for face in self.faces],
            "image": {"width": self.width, "height": self.height},
        }


def _rounded(share: float) -> float:
    return round(share, 6)  # float32 has no more precision
