"""What training minimises, and how its logits are read."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class EmotionLoss(nn.Module):
    """Smoothed cross-entropy on the label, mixed with cross-entropy on the share of votes where there are any.

    Logits (N, C), labels (N,) and, for `votes` above 0, shares (N, C) that sum to 1, or to 0 where nobody voted.
    `class_weights` (C,) scale what a label, or a vote for it, costs.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        label_smoothing: float = 0.0,
        votes: float = 0.0,
        reduction: str = "mean",
        class_weights: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("class_weights", class_weights)
        self.label_smoothing = label_smoothing
        self.votes = votes
        self.reduction = reduction  # fastai sets it to "none" to find the worst mistakes

    def forward(self, logits: Tensor, labels: Tensor, shares: Tensor | None = None) -> Tensor:
        target = functional.one_hot(labels, logits.shape[1]).to(logits.dtype)
        if shares is not None:
            voted = shares.sum(dim=1, keepdim=True) > 0
            target = torch.where(voted, torch.lerp(target, shares.to(target), self.votes), target)
        return functional.cross_entropy(
            logits,
            target,
            weight=None if self.class_weights is None else self.class_weights.to(logits),
            label_smoothing=self.label_smoothing,
            reduction=self.reduction,
        )

    def activation(self, logits: Tensor) -> Tensor:
        """Probabilities, as fastai's `get_preds` and `predict` return them."""
        return logits.softmax(dim=-1)

    def decodes(self, probabilities: Tensor) -> Tensor:
        """The index of the label."""
        return probabilities.argmax(dim=-1)
