"""Self-distillation: a student starts from a trained learner and learns its teachers' probabilities."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fastai.learner import Learner
from torch import Tensor, nn

from dexpression.training import distillation
from dexpression.training.distillation import KnowledgeDistillation, train_student
from dexpression.training.fitting import create_learner, fit, recipe_dataloaders
from dexpression.training.recipe import Recipe
from tests.support.recipes import QUICK

RECIPE = dataclasses.replace(QUICK, epochs=1, student_epochs=2, teachers=2)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


class PixelTeacher(nn.Module):
    """A teacher of two heads, whose logits are the pixels: (N, 1, 2, C) -> (N, 2, C)."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, faces: Tensor) -> Tensor:
        return self.scale * faces[:, 0]


def distilled(faces: Tensor, *teachers: nn.Module, training: bool = True, epoch: int = 4) -> SimpleNamespace:
    """Apply KnowledgeDistillation to a batch in one of five epochs; those of the last epoch are not mixed."""
    callback = KnowledgeDistillation(teachers)
    callback.learn = SimpleNamespace(training=training, xb=(faces,), yb=("labels", "votes"), epoch=epoch, n_epoch=5)
    callback.before_batch()
    return callback.learn


def trained(source: Path, runs: Path, recipe: Recipe) -> Learner:
    learner = create_learner(recipe_dataloaders(source, recipe), recipe)
    fit(learner, recipe, runs)
    return learner


def test_the_targets_of_each_head_are_the_probabilities_of_the_teachers():
    faces = torch.randn(4, 1, 2, 3)
    probabilities = [(scale * faces[:, 0]).softmax(dim=-1) for scale in (1.0, -2.0)]
    expected = torch.cat([probabilities[0][:2], probabilities[1][2:]])
    targets = torch.stack(distilled(faces, PixelTeacher(1.0), PixelTeacher(-2.0)).yb, dim=1)
    assert torch.allclose(targets, expected) or torch.allclose(targets, expected.flip(-1))  # mirrored


def test_a_teacher_sees_faces_as_they_are_and_mirrored():
    faces = torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])
    seen = {round(float(distilled(faces, PixelTeacher()).yb[0][0, 0]), 3) for _ in range(40)}
    assert seen == {0.269, 0.731}  # the softmax of 0 and of 1


def test_about_half_of_the_batches_are_mixed_except_in_the_last_fifth_of_the_epochs():
    faces = torch.randn(4, 1, 2, 3)
    batches = [distilled(faces, PixelTeacher()) for _ in range(20)]
    assert all(batch.xb[0] is faces for batch in batches)
    batches = [distilled(faces, PixelTeacher(), epoch=3) for _ in range(40)]
    assert 8 <= sum(batch.xb[0] is faces for batch in batches) <= 32


def test_a_mixed_face_lies_between_two_faces_and_its_target_is_for_the_mixed_face():
    faces = torch.tensor([0.0, 1.0])[:, None, None, None] * torch.arange(1.0, 7.0).view(2, 3)
    batches = [distilled(faces, PixelTeacher(), epoch=0) for _ in range(40)]
    batch = next(batch for batch in batches if batch.xb[0] is not faces)
    shares = batch.xb[0][:, 0] / faces[1, 0]
    assert torch.allclose(shares, shares[:, :1, :1].expand_as(shares))
    assert 0 < float(shares[0, 0, 0]) < 1
    assert float(shares[0, 0, 0]) != pytest.approx(1 - float(shares[1, 0, 0]))  # each face has its own share
    targets, expected = torch.stack(batch.yb, dim=1), batch.xb[0][:, 0].softmax(dim=-1)
    assert torch.allclose(targets, expected) or torch.allclose(targets, expected.flip(-1))  # mirrored


def test_the_head_for_votes_gets_no_target_without_votes():
    callback = KnowledgeDistillation([PixelTeacher()])
    faces = torch.zeros(1, 1, 2, 3)
    callback.learn = SimpleNamespace(training=True, xb=(faces,), yb=("labels",), epoch=0, n_epoch=1)
    callback.before_batch()
    assert [tuple(targets.shape) for targets in callback.learn.yb] == [(1, 3)]


def test_validation_batches_keep_their_labels_and_votes():
    assert distilled(torch.zeros(1, 1, 2, 2), PixelTeacher(), training=False).yb == ("labels", "votes")


@pytest.mark.slow
def test_a_student_with_a_tiny_learning_rate_equals_its_first_teacher(split_folders, tmp_path):
    recipe = dataclasses.replace(RECIPE, student_epochs=1)
    teacher = trained(split_folders, tmp_path, recipe)
    student = train_student(teacher, dataclasses.replace(recipe, learning_rate=1e-8, weight_decay=0.0), tmp_path)
    for name, weight in student.model.named_parameters():
        assert torch.allclose(weight, teacher.model.get_parameter(name), atol=1e-5), name


@pytest.mark.slow
def test_teachers_differ_and_do_not_learn_while_the_student_learns_without_labels(split_folders, tmp_path, monkeypatch):
    callbacks = []
    monkeypatch.setattr(
        distillation,
        "KnowledgeDistillation",
        lambda teachers: callbacks.append(KnowledgeDistillation(teachers)) or callbacks[-1],
    )
    learner = trained(split_folders, tmp_path, RECIPE)
    before = copy.deepcopy(learner.model.state_dict())
    student = train_student(learner, dataclasses.replace(RECIPE, teachers=3), tmp_path)
    (first, *others), loss = callbacks[0].teachers, student.loss_func
    assert first is learner.model
    assert len({next(teacher.parameters()).sum().item() for teacher in (first, *others)}) == 3
    assert (loss.label_smoothing, loss.class_weights) == (0, None)
    assert all(torch.equal(weight, before[name]) for name, weight in first.state_dict().items())
    assert not torch.equal(next(student.model.parameters()), next(first.parameters()))
