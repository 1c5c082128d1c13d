"""A learner's network for inference: the module that its ONNX model is made from, and a backend that runs it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from fastai.learner import Learner
from torch import Tensor, nn


class InferenceModule(nn.Module):
    """Normalisation, network and activation of a learner in one: pixels (N, 1, H, W) -> probabilities (N, labels).

    A fastai Learner stores its current batch in itself, so it can serve only one caller at a time. The network, in
    evaluation mode and without gradients, stores nothing.
    """

    def __init__(self, learner: Learner) -> None:
        super().__init__()
        self.network = learner.model.eval()
        self.loss = learner.loss_func
        normalize = learner.dls.valid.after_batch.normalize
        self.mean, self.std = float(normalize.mean), float(normalize.std)

    def forward(self, pixels: Tensor) -> Tensor:
        probabilities: Tensor = self.loss.activation(self.network((pixels.float() / 255 - self.mean) / self.std))
        return probabilities


def torch_backend(learner: Learner) -> Callable[[np.ndarray], np.ndarray]:
    """The learner's network in PyTorch, on the CPU, as a `dexpression.engine.Backend`."""
    module = InferenceModule(learner)

    def read(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            probabilities: np.ndarray = module(torch.from_numpy(pixels)).numpy()
        return probabilities

    return read
