"""The loss that training minimises, and how logits become the probabilities of each reading."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional

from dexpression.labels import LABELS_READING, PEOPLE_READING


def label_logits(logits: Tensor) -> Tensor:
    """Select (N, C), the logits of the head that learns labels, from (N, C) or (N, 2, C)."""
    return logits if logits.dim() == 2 else logits[:, 0]


class Readout(nn.Module):
    """The probabilities of one reading: (N, C) from logits (N, C), or (N, 2, C) with a second head that learned votes.

    Logits are divided by `temperature`. The probabilities of both heads are averaged, the second with the share
    `vote_share`, 0..1. Each label's probability is then multiplied by its entry of `class_factors` (C,), a post-hoc
    prior correction, and all are scaled to sum to 1.
    """

    class_factors: Tensor | None

    def __init__(self, vote_share: float = 0.0, temperature: float = 1.0, class_factors: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("class_factors", class_factors)
        self.vote_share = vote_share
        self.temperature = temperature

    def forward(self, logits: Tensor) -> Tensor:
        return self.probabilities(logits, self.temperature, self.class_factors)

    def probabilities(self, logits: Tensor, temperature: float | Tensor, class_factors: Tensor | None) -> Tensor:
        """Probabilities (N, C) at this temperature and with these class factors, whatever its own are."""
        blended = (logits / temperature).softmax(dim=-1)
        if blended.dim() == 3:
            blended = (1 - self.vote_share) * blended[:, 0] + self.vote_share * blended[:, 1]
        if class_factors is None:
            return blended
        corrected = blended * class_factors.to(blended)
        return corrected / corrected.sum(dim=-1, keepdim=True)


def default_readouts(heads: int) -> dict[str, Readout]:
    """The readouts of a network that is not calibrated yet: each reading is one head."""
    labels: dict[str, Readout] = {LABELS_READING: Readout()}
    return labels if heads == 1 else {PEOPLE_READING: Readout(vote_share=1.0)} | labels


class EmotionLoss(nn.Module):
    """Smoothed cross-entropy on the label plus, for a network with a second head, cross-entropy on votes.

    Training: logits are (N, C), or (N, 2, C) with a second head; labels are (N,); a vote distribution (soft labels) is
    (N, C), where each row sums to 1, or to 0 without votes. `class_weights` (C,) scale the cost of a label or of a
    vote for it. `vote_weight` scales the second head's part.

    Inference: `readouts` gives the probabilities of each reading; the first one is the default, which fastai shows.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        label_smoothing: float = 0.0,
        vote_weight: float = 1.0,
        readouts: Mapping[str, Readout] | None = None,
        reduction: str = "mean",
        class_weights: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("class_weights", class_weights)
        self.readouts = nn.ModuleDict(readouts or default_readouts(heads=1))
        self.label_smoothing = label_smoothing
        self.vote_weight = vote_weight
        self.reduction = reduction  # fastai sets it to "none" to find the worst mistakes

    def forward(self, logits: Tensor, labels: Tensor, vote_distribution: Tensor | None = None) -> Tensor:
        loss = self._cross_entropy(label_logits(logits), labels, self.label_smoothing)
        if logits.dim() == 3 and vote_distribution is not None:
            loss = loss + self.vote_weight * self._cross_entropy(logits[:, 1], vote_distribution.to(logits))
        return loss

    def _cross_entropy(self, logits: Tensor, target: Tensor, label_smoothing: float = 0.0) -> Tensor:
        if target.dim() == 1:  # torch divides by the sum of the weights for indices, but not for distributions
            target = functional.one_hot(target, logits.shape[1]).to(logits.dtype)
        weight = None if self.class_weights is None else self.class_weights.to(logits)
        return functional.cross_entropy(
            logits, target, weight=weight, label_smoothing=label_smoothing, reduction=self.reduction
        )

    def activation(self, logits: Tensor) -> Tensor:
        """Probabilities (N, C) of the default reading, as fastai's `get_preds` and `predict` return them."""
        return self.probabilities(logits)[0]

    def probabilities(self, logits: Tensor) -> tuple[Tensor, ...]:
        """Probabilities (N, C) of each reading, in the order of `readouts`."""
        return tuple(readout(logits) for readout in self.readouts.values())

    def decodes(self, probabilities: Tensor) -> Tensor:
        """The index of the most probable label, (N,), as fastai asks for it."""
        return probabilities.argmax(dim=-1)
