"""A learner's network for inference: the module that its ONNX model is made from, and a backend that runs it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from fastai.learner import Learner
from torch import Tensor, nn

from dexpression.labels import EVIDENCE


class InferenceModule(nn.Module):
    """Normalisation, network and readouts of a learner in one.

    Pixels (N, 1, H, W) -> probabilities (N, labels) of each reading, in the order of `readings`; then, for a network
    that has it, the evidence of each place for each head and label, (N, heads, labels, rows, columns).

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

    @property
    def outputs(self) -> list[str]:
        """The names of what `forward` returns."""
        return [*self.readings, EVIDENCE] if self.network.has_evidence else self.readings

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        faces = (pixels.float() / 255 - self.mean) / self.std
        if not self.network.has_evidence:
            probabilities: tuple[Tensor, ...] = self.loss.probabilities(self.network(faces))
            return probabilities
        evidence = self.network.evidence(faces)
        # The logits come from the evidence, so that they are its mean in an int8 model too.
        logits = evidence.mean(dim=(-2, -1))
        return (*self.loss.probabilities(logits if self.network.heads > 1 else logits[:, 0]), evidence)


def torch_backend(learner: Learner) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """The learner's network in PyTorch, on the CPU, as a `dexpression.engine.Backend`."""
    module = InferenceModule(learner)

    def read(pixels: np.ndarray) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            outputs = module(torch.from_numpy(pixels))
        return {name: rows.numpy() for name, rows in zip(module.outputs, outputs, strict=True)}

    return read
