"""Knowledge distillation: a network learns the answers of another one to the same faces before they are degraded."""

from __future__ import annotations

import torch
from fastai.callback.core import Callback
from torch import Tensor, nn
from torch.nn import functional


class KnowledgeDistillation(Callback):
    """Mix the cross-entropy with the teacher's probabilities into the loss, with this share, 0..1.

    The teacher sees the augmented faces of a batch before `DegradeFaces` changes them, so that a blurred face has the
    answer of the sharp one. In half of all batches the teacher sees the faces mirrored, since both are the same
    expression. Unlike labels, its answers change with every augmentation, and so cannot be memorised (Beyer et al.
    2022, "A good teacher is patient and consistent").
    """

    order = 50  # after the precision is set, before faces are degraded

    def __init__(self, teacher: nn.Module, share: float) -> None:
        self.teacher, self.share = teacher.eval(), share

    @torch.no_grad()
    def before_batch(self) -> None:
        if self.training:
            faces = self.learn.xb[0]
            seen = faces.flip(-1) if torch.rand(()) < 0.5 else faces
            self.targets = self.teacher(seen).float().softmax(dim=-1)

    def after_loss(self) -> None:
        if self.training:
            loss = soft_cross_entropy(self.learn.pred, self.targets)
            self.learn.loss_grad = torch.lerp(self.learn.loss_grad, loss, self.share)
            self.learn.loss = self.learn.loss_grad.clone()


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of logits (N, C), or (N, heads, C), with probabilities of the same shape: the sum over heads."""
    log_probabilities = functional.log_softmax(logits.float(), dim=-1)
    return -(targets * log_probabilities).sum() / len(logits)
