"""Faces -> probabilities, batched. Knows no HTTP; any number of threads may ask at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from dexpression.artifact import load_engine, load_exported
from dexpression.engine import Engine, onnx_engine, torch_engine
from dexpression.errors import DeXpressionError
from dexpression.picture import frame_face, to_grey


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
        """The same prediction, were these the only labels; DeXpressionError where the model lacks one of them."""
        missing = [label for label in labels if label not in self.probabilities]
        if missing:
            known = ", ".join(self.probabilities)
            raise DeXpressionError(f"The model knows no {', '.join(missing)}. Choose among {known}.")
        chosen = {label: self.probabilities[label] for label in labels}
        total = sum(chosen.values())
        return Prediction({label: value / total for label, value in chosen.items()})


def name_probabilities(labels: Sequence[str], probabilities: np.ndarray) -> list[Prediction]:
    """(N, labels) -> one prediction a row."""
    return [Prediction(dict(zip(labels, row, strict=True))) for row in probabilities.tolist()]


class Predictor:
    """Pictures -> predictions, by the engine that a model file holds; any number of threads may ask at once."""

    def __init__(self, engine: Engine, labels: Sequence[str], image_size: int) -> None:
        self.labels = tuple(labels)
        self.image_size = image_size
        self._engine = engine

    @classmethod
    def load(cls, path: Path) -> Predictor:
        """From dexpression.pkl or dexpression.onnx, and the manifest beside it; raises ArtifactError."""
        if path.suffix == ".onnx":
            content, manifest = load_engine(path)
            return cls(onnx_engine(content), manifest.labels, manifest.image_size)
        learner, manifest = load_exported(path)
        return cls(torch_engine(learner), manifest.labels, manifest.image_size)

    def predict(self, pictures: Sequence[Image.Image]) -> list[Prediction]:
        """One prediction a picture, each taken as one face; an empty list for none."""
        if not pictures:
            return []
        faces = [np.asarray(frame_face(to_grey(picture), self.image_size)) for picture in pictures]
        return name_probabilities(self.labels, self._engine(np.stack(faces)[:, None]))
