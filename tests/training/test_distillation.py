"""A network is taught by labels, then by what it and others answer, and a run of all that goes on where it was."""

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
from dexpression.training.distillation import KnowledgeDistillation, train_network, train_student
from dexpression.training.fitting import create_learner, fit, recipe_dataloaders
from dexpression.training.recipe import Recipe
from tests.support.recipes import QUICK

TAUGHT = dataclasses.replace(QUICK, epochs=1, student_epochs=2, teachers=2)


class Reader(nn.Module):
    """A teacher of two heads, whose logits are the pixels: (N, 1, 2, C) -> (N, 2, C)."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, faces: Tensor) -> Tensor:
        return self.scale * faces[:, 0]


class StoppingLesson(KnowledgeDistillation):
    """Stops the run in its second epoch, after the first was saved."""

    def before_batch(self) -> None:
        super().before_batch()
        if self.training and self.epoch == 1:
            raise KeyboardInterrupt


def taught(faces: Tensor, *teachers: nn.Module, training: bool = True) -> tuple[Tensor, ...]:
    """What a batch is to learn after the lesson."""
    return after_lesson(faces, *teachers, training=training).yb


def after_lesson(faces: Tensor, *teachers: nn.Module, training: bool = True, epoch: int = 4) -> SimpleNamespace:
    """A batch after the lesson, in an epoch of five; those of the last one are not mixed."""
    lesson = KnowledgeDistillation(teachers)
    lesson.learn = SimpleNamespace(training=training, xb=(faces,), yb=("labels", "votes"), epoch=epoch, n_epoch=5)
    lesson.before_batch()
    return lesson.learn


def teacher_of(source: Path, runs: Path, recipe: Recipe) -> Learner:
    learner = create_learner(recipe_dataloaders(source, recipe), recipe)
    fit(learner, recipe, runs)
    return learner


def student_of(source: Path, runs: Path, recipe: Recipe) -> Learner:
    return train_network(recipe_dataloaders(source, recipe), recipe, runs)


def test_a_batch_is_taught_what_its_teachers_answer_head_by_head():
    faces = torch.randn(4, 1, 2, 3)
    answers = [(scale * faces[:, 0]).softmax(dim=-1) for scale in (1.0, -2.0)]
    expected = torch.cat([answers[0][:2], answers[1][2:]])
    targets = torch.stack(taught(faces, Reader(1.0), Reader(-2.0)), dim=1)
    assert torch.allclose(targets, expected) or torch.allclose(targets, expected.flip(-1))  # mirrored


def test_a_teacher_sees_a_face_as_it_is_and_mirrored():
    faces = torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])
    seen = {round(float(taught(faces, Reader())[0][0, 0]), 3) for _ in range(40)}
    assert seen == {0.269, 0.731}  # the softmax of 0 and of 1


def test_every_other_batch_is_mixed_two_and_two_but_in_the_last_fifth_of_the_epochs():
    faces = torch.randn(4, 1, 2, 3)
    batches = [after_lesson(faces, Reader()) for _ in range(20)]
    assert all(batch.xb[0] is faces for batch in batches)
    batches = [after_lesson(faces, Reader(), epoch=3) for _ in range(40)]
    assert 8 <= sum(batch.xb[0] is faces for batch in batches) <= 32


def test_a_mixed_face_lies_between_two_and_is_taught_as_it_is_seen():
    faces = torch.tensor([0.0, 1.0])[:, None, None, None] * torch.arange(1.0, 7.0).view(2, 3)
    batches = [after_lesson(faces, Reader(), epoch=0) for _ in range(40)]
    batch = next(batch for batch in batches if batch.xb[0] is not faces)
    shares = batch.xb[0][:, 0] / faces[1, 0]
    assert torch.allclose(shares, shares[:, :1, :1].expand_as(shares))
    assert 0 < float(shares[0, 0, 0]) < 1
    assert float(shares[0, 0, 0]) != pytest.approx(1 - float(shares[1, 0, 0]))  # each in shares of its own
    targets, expected = torch.stack(batch.yb, dim=1), batch.xb[0][:, 0].softmax(dim=-1)
    assert torch.allclose(targets, expected) or torch.allclose(targets, expected.flip(-1))  # mirrored


def test_a_head_that_nobody_voted_for_learns_nothing():
    lesson = KnowledgeDistillation([Reader()])
    faces = torch.zeros(1, 1, 2, 3)
    lesson.learn = SimpleNamespace(training=True, xb=(faces,), yb=("labels",), epoch=0, n_epoch=1)
    lesson.before_batch()
    assert [tuple(targets.shape) for targets in lesson.learn.yb] == [(1, 3)]


def test_what_is_validated_keeps_its_labels_and_votes():
    assert taught(torch.zeros(1, 1, 2, 2), Reader(), training=False) == ("labels", "votes")


def test_a_student_of_a_tiny_step_is_its_first_teacher(split_folders, tmp_path):
    recipe = dataclasses.replace(TAUGHT, student_epochs=1)
    teacher = teacher_of(split_folders, tmp_path, recipe)
    student = train_student(teacher, dataclasses.replace(recipe, learning_rate=1e-8, weight_decay=0.0), tmp_path)
    for name, weight in student.model.named_parameters():
        assert torch.allclose(weight, teacher.model.get_parameter(name), atol=1e-5), name


def test_the_student_goes_on_from_the_first_of_its_teachers_without_labels(split_folders, tmp_path, monkeypatch):
    lessons = []
    monkeypatch.setattr(
        distillation,
        "KnowledgeDistillation",
        lambda teachers: lessons.append(KnowledgeDistillation(teachers)) or lessons[-1],
    )
    teacher = teacher_of(split_folders, tmp_path, TAUGHT)
    before = copy.deepcopy(teacher.model.state_dict())
    student = train_student(teacher, dataclasses.replace(TAUGHT, teachers=3), tmp_path)
    (first, *others), loss = lessons[0].teachers, student.loss_func
    assert first is teacher.model
    assert len({next(one.parameters()).sum().item() for one in (first, *others)}) == 3
    assert (loss.label_smoothing, loss.class_weights) == (0, None)
    assert all(torch.equal(weight, before[name]) for name, weight in first.state_dict().items())  # it only answers
    assert not torch.equal(next(student.model.parameters()), next(first.parameters()))


def test_a_run_of_all_that_was_stopped_goes_on_where_it_was(split_folders, tmp_path, monkeypatch):
    whole = student_of(split_folders, tmp_path / "whole", TAUGHT)
    teacher = teacher_of(split_folders, tmp_path / "stopped", TAUGHT)
    monkeypatch.setattr(distillation, "KnowledgeDistillation", StoppingLesson)
    with pytest.raises(KeyboardInterrupt):
        train_student(teacher, TAUGHT, tmp_path / "stopped")
    monkeypatch.undo()
    resumed = student_of(split_folders, tmp_path / "stopped", TAUGHT)
    weights = zip(whole.model.state_dict().values(), resumed.model.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in weights)


def test_another_share_of_the_answer_trains_nothing_anew(split_folders, tmp_path, monkeypatch):
    student_of(split_folders, tmp_path, TAUGHT)
    monkeypatch.setattr(Learner, "_backward", lambda *_, **__: pytest.fail("trained a finished run"))
    student_of(split_folders, tmp_path, dataclasses.replace(TAUGHT, blend=0.7))
    assert len(list(tmp_path.glob("compact-*"))) == 3


def test_no_student_epochs_train_one_network_from_labels(split_folders, tmp_path):
    student_of(split_folders, tmp_path, dataclasses.replace(TAUGHT, student_epochs=0))
    assert len(list(tmp_path.glob("compact-*"))) == 1
