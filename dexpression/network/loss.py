"""What training minimises, and how its logits are read."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def label_logits(logits: Tensor) -> Tensor:
    """(N, C) of the head that learns labels, of (N, C) or (N, 2, C)."""
    return logits if logits.dim() == 2 else logits[:, 0]


class EmotionLoss(nn.Module):
    """Smoothed cross-entropy on the label and, from a network's second head, cross-entropy on the share of votes.

    Logits (N, C) of one head or (N, 2, C) of two, labels (N,) and, where there are votes, shares (N, C) that sum to 1,
    or to 0 where nobody voted. `class_weights` (C,) scale what a label, or a vote for it, costs, and `votes` what the
    second head's part does. The answer is a mean of both heads' probabilities, the second one's share in it `blend`,
    0..1, after their logits were divided by `temperature`; at last each label's is multiplied by its own of
    `factors` (C,), and all are made to sum to 1 again.
    """

    class_weights: Tensor | None
    factors: Tensor | None

    def __init__(
        self,
        label_smoothing: float = 0.0,
        votes: float = 1.0,
        blend: float = 0.0,
        temperature: float = 1.0,
        reduction: str = "mean",
        class_weights: Tensor | None = None,
        factors: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("class_weights", class_weights)
        self.register_buffer("factors", factors)
        self.label_smoothing = label_smoothing
        self.votes = votes
        self.blend = blend
        self.temperature = temperature
        self.reduction = reduction  # fastai sets it to "none" to find the worst mistakes

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._buffers.setdefault("factors", None)  # learners exported before there were any

    def forward(self, logits: Tensor, labels: Tensor, shares: Tensor | None = None) -> Tensor:
        loss = self._cross_entropy(label_logits(logits), labels, self.label_smoothing)
        if logits.dim() == 3 and shares is not None:
            loss = loss + self.votes * self._cross_entropy(logits[:, 1], shares.to(logits))
        return loss

    def _cross_entropy(self, logits: Tensor, target: Tensor, label_smoothing: float = 0.0) -> Tensor:
        if target.dim() == 1:  # torch divides the mean over labels, but not over shares, by the sum of the weights
            target = functional.one_hot(target, logits.shape[1]).to(logits.dtype)
        weight = None if self.class_weights is None else self.class_weights.to(logits)
        return functional.cross_entropy(
            logits, target, weight=weight, label_smoothing=label_smoothing, reduction=self.reduction
        )

    def activation(self, logits: Tensor) -> Tensor:
        """Probabilities (N, C), as fastai's `get_preds` and `predict` return them."""
        return self.answer(logits, self.temperature, self.factors)

    def answer(self, logits: Tensor, temperature: float | Tensor, factors: Tensor | None) -> Tensor:
        """Probabilities (N, C), were the temperature and the factors these."""
        probabilities = (logits / temperature).softmax(dim=-1)
        if probabilities.dim() == 3:
            probabilities = torch.lerp(probabilities[:, 0], probabilities[:, 1], self.blend)
        if factors is None:
            return probabilities
        weighed = probabilities * factors.to(probabilities)
        return weighed / weighed.sum(dim=-1, keepdim=True)

    def decodes(self, probabilities: Tensor) -> Tensor:
        """The index of the label."""
        return probabilities.argmax(dim=-1)
