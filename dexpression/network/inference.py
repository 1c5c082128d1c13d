"""A learner's network for inference: the module that its ONNX model is made from, and a backend that runs it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from fastai.learner import Learner
from torch import Tensor, nn


class InferenceModule(nn.Module):
    """Normalisation, network and readouts of a learner in one.

    Pixels (N, 1, H, W) -> probabilities (N, labels) of each reading, in the order of `readings`.

    A fastai Learner stores its current batch in itself, so it can serve only one caller at a time. The network, in
    evaluation mode and without gradients, stores nothing.
    """

    def __init__(self, learner: Learner) -> None:
        super().__init__()
        self.network = learner.model.eval()
        self.loss = learner.loss_func
        self.readings = list(self.loss.readouts)
        normalize = learner.dls.valid.after_batch.normalize
        self.mean, self.std = float(normalize.mean), float(normalize.std)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        probabilities: tuple[Tensor, ...] = self.loss.probabilities(
            self.network((pixels.float() / 255 - self.mean) / self.std)
        )
        return probabilities


def torch_backend(learner: Learner) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """The learner's network in PyTorch, on the CPU, as a `dexpression.engine.Backend`."""
    module = InferenceModule(learner)

    def read(pixels: np.ndarray) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            probabilities = module(torch.from_numpy(pixels))
        return {name: rows.numpy() for name, rows in zip(module.readings, probabilities, strict=True)}

    return read
