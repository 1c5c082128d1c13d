"""An exported learner's own network as an engine, and as the module that its ONNX form is made of."""

from __future__ import annotations

import numpy as np
import torch
from fastai.learner import Learner
from torch import Tensor, nn

from dexpression.engine import Engine


class FaceReader(nn.Module):
    """Normalisation, network and activation of a learner in one: pixels (N, 1, H, W) -> probabilities (N, labels).

    A fastai Learner keeps the batch it works on in itself and so serves one caller at a time; the network, in
    evaluation mode and without gradients, keeps nothing.
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


def torch_engine(learner: Learner) -> Engine:
    """The learner's network in PyTorch, on the CPU."""
    reader = FaceReader(learner)

    def read(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            probabilities: np.ndarray = reader(torch.from_numpy(pixels)).numpy()
        return probabilities

    return read
