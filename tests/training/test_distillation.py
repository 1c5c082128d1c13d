"""Knowledge distillation: a network learns the answers of a teacher to the faces as they were before blur and so on."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from dexpression.training.distillation import KnowledgeDistillation, soft_cross_entropy


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


class PixelTeacher(nn.Module):
    """A teacher of two heads, whose logits are the pixels: (N, 1, 2, C) -> (N, 2, C)."""

    def forward(self, faces: Tensor) -> Tensor:
        return faces[:, 0]


def started(faces: Tensor, share: float = 0.5, training: bool = True) -> KnowledgeDistillation:
    """The callback before a batch."""
    callback = KnowledgeDistillation(PixelTeacher(), share)
    callback.learn = SimpleNamespace(training=training, xb=(faces,))
    callback.before_batch()
    return callback


def loss_after(share: float, training: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """The loss of labels of a batch, its loss with the answers of the teacher alone, and what the callback makes."""
    callback = started(torch.randn(4, 1, 2, 3), share, training)
    logits, plain = torch.randn(4, 2, 3, requires_grad=True), torch.tensor(2.5, requires_grad=True)
    callback.learn.pred, callback.learn.loss_grad, callback.learn.loss = logits, plain, plain.clone()
    callback.after_loss()
    taught = soft_cross_entropy(logits, callback.targets) if training else plain
    return plain, taught, callback.learn.loss_grad


def test_the_targets_of_each_head_are_the_probabilities_of_the_teacher_for_the_face_or_its_mirror_image():
    faces = torch.randn(4, 1, 2, 3)
    expected = faces[:, 0].softmax(dim=-1)
    mirrored = [not torch.allclose(started(faces).targets, expected) for _ in range(40)]
    assert 8 <= sum(mirrored) <= 32
    seen = {round(float(started(faces).targets[0, 0, 0]), 4) for _ in range(40)}
    assert seen == {round(float(value), 4) for value in (expected[0, 0, 0], expected[0, 0, 2])}


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_answers_of_the_teacher_have_their_share_of_the_loss(share):
    plain, taught, mixed = loss_after(share)
    assert mixed.item() == pytest.approx(((1 - share) * plain + share * taught).item())


def test_the_mixed_loss_is_what_is_learned_from_and_the_teacher_does_not_learn():
    callback = KnowledgeDistillation(nn.Linear(3, 3), 1.0)
    faces, logits = torch.randn(4, 3), torch.randn(4, 3, requires_grad=True)
    plain = torch.tensor(1.0, requires_grad=True)
    callback.learn = SimpleNamespace(training=True, xb=(faces,), pred=logits, loss_grad=plain, loss=plain)
    callback.before_batch()
    callback.after_loss()
    callback.learn.loss_grad.backward()
    assert logits.grad.abs().sum() > 0
    assert all(weight.grad is None for weight in callback.teacher.parameters())
    assert not callback.teacher.training


def test_validation_has_the_loss_of_labels_alone():
    plain, _, kept = loss_after(0.5, training=False)
    assert kept is plain


@pytest.mark.parametrize("shape", [(6, 3), (6, 2, 3)])
def test_the_soft_loss_is_least_where_the_answers_are_those_of_the_teacher_and_is_a_sum_over_heads(shape):
    logits = torch.randn(shape)
    targets = logits.softmax(dim=-1)
    entropy = -(targets * targets.log()).sum(dim=-1).reshape(6, -1).sum(dim=1).mean()
    assert soft_cross_entropy(logits, targets).item() == pytest.approx(entropy.item(), rel=1e-5)
    assert soft_cross_entropy(logits + torch.randn(shape), targets) > entropy
