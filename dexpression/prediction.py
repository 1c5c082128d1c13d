"""Faces -> probabilities, batched. Knows no HTTP; any number of threads may ask at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from fastai.learner import Learner
from PIL import Image
from torch import Tensor

from dexpression.artifact import Manifest, load_exported
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


def name_probabilities(labels: Sequence[str], probabilities: Tensor) -> list[Prediction]:
    """(N, labels) -> one prediction a row."""
    return [Prediction(dict(zip(labels, row, strict=True))) for row in probabilities.tolist()]


class Predictor:
    """The network of an exported learner, without the DataLoader that `learner.predict` builds for every picture.

    A fastai Learner keeps the batch it works on in itself and so serves one caller at a time; the network, in
    evaluation mode and without gradients, keeps nothing.
    """

    def __init__(self, learner: Learner, manifest: Manifest) -> None:
        self.manifest = manifest
        self.labels = tuple(manifest.labels)
        self.image_size = manifest.image_size
        self._network = learner.model.eval()
        self._activation = learner.loss_func.activation
        normalize = learner.dls.valid.after_batch.normalize
        self._mean, self._std = float(normalize.mean), float(normalize.std)

    @classmethod
    def load(cls, learner_path: Path) -> Predictor:
        """From model/dexpression.pkl and the manifest beside it; raises ArtifactError."""
        return cls(*load_exported(learner_path))

    def predict(self, pictures: Sequence[Image.Image]) -> list[Prediction]:
        """One prediction a picture, each taken as one face; an empty list for none."""
        if not pictures:
            return []
        with torch.inference_mode():
            probabilities = self._activation(self._network(self._batch(pictures)))
        return name_probabilities(self.labels, probabilities)

    def _batch(self, pictures: Sequence[Image.Image]) -> Tensor:
        """(N, 1, size, size), normalised as in training."""
        faces = [np.asarray(frame_face(to_grey(picture), self.image_size)) for picture in pictures]
        return (torch.from_numpy(np.stack(faces)).float().div_(255) - self._mean)[:, None] / self._std
