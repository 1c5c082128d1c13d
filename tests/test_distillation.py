"""A network is taught by labels, then by what it and another answer, and a run of all that goes on where it was."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fastai.learner import Learner
from test_sources import write_votes
from test_training import QUICK
from torch import Tensor, nn

from dexpression import distillation
from dexpression.artifact import load_exported
from dexpression.distillation import Teach, train_network, train_student
from dexpression.errors import RecipeError
from dexpression.settings import Settings
from dexpression.training import Recipe, create_learner, fit, recipe_dataloaders

TAUGHT = dataclasses.replace(QUICK, epochs=1, student_epochs=2)


class Reader(nn.Module):
    """A teacher of two heads, whose logits are the pixels: (N, 1, 2, C) -> (N, 2, C)."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, faces: Tensor) -> Tensor:
        return self.scale * faces[:, 0]


class StoppingLesson(Teach):
    """Stops the run in its second epoch, after the first was saved."""

    def before_batch(self) -> None:
        super().before_batch()
        if self.training and self.epoch == 1:
            raise KeyboardInterrupt


def taught(faces: Tensor, *teachers: nn.Module, training: bool = True) -> tuple[Tensor, ...]:
    """What a batch is to learn after the lesson."""
    lesson = Teach(teachers)
    lesson.learn = SimpleNamespace(training=training, xb=(faces,), yb=("labels", "votes"))
    lesson.before_batch()
    return lesson.learn.yb


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


def test_a_head_that_nobody_voted_for_learns_nothing():
    lesson = Teach([Reader()])
    lesson.learn = SimpleNamespace(training=True, xb=(torch.zeros(1, 1, 2, 3),), yb=("labels",))
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


def test_the_student_goes_on_from_the_first_of_two_teachers_without_labels(split_folders, tmp_path, monkeypatch):
    lessons = []
    monkeypatch.setattr(distillation, "Teach", lambda teachers: lessons.append(Teach(teachers)) or lessons[-1])
    teacher = teacher_of(split_folders, tmp_path, TAUGHT)
    before = copy.deepcopy(teacher.model.state_dict())
    student = train_student(teacher, TAUGHT, tmp_path)
    (first, second), loss = lessons[0].teachers, student.loss_func
    assert first is teacher.model
    assert not torch.equal(next(first.parameters()), next(second.parameters()))
    assert (loss.label_smoothing, loss.class_weights) == (0, None)
    assert all(torch.equal(weight, before[name]) for name, weight in first.state_dict().items())  # it only answers
    assert not torch.equal(next(student.model.parameters()), next(first.parameters()))


def test_an_exported_learner_is_taught_in_place_of_the_first_and_teaches_too(
    split_folders, tmp_path, monkeypatch, exported_learner
):
    lessons = []
    monkeypatch.setattr(distillation, "Teach", lambda teachers: lessons.append(Teach(teachers)) or lessons[-1])
    recipe = dataclasses.replace(TAUGHT, student_epochs=1, student=exported_learner)
    teacher = teacher_of(split_folders, tmp_path, recipe)
    student = train_student(teacher, dataclasses.replace(recipe, learning_rate=1e-8, weight_decay=0.0), tmp_path)
    given = load_exported(exported_learner)[0].model
    assert lessons[0].teachers[0] is teacher.model
    assert all(torch.equal(*pair) for pair in zip(lessons[0].teachers[2].parameters(), given.parameters(), strict=True))
    for name, weight in student.model.named_parameters():
        assert torch.allclose(weight, given.get_parameter(name), atol=1e-5), name


def test_a_student_of_more_heads_than_its_teachers_is_refused_before_they_learn(split_folders, tmp_path, monkeypatch):
    monkeypatch.setattr(distillation, "fit", lambda *_: pytest.fail("a teacher was trained"))
    with pytest.raises(RecipeError, match="has other heads"):  # the shipped one has a head for votes, these faces none
        student_of(split_folders, tmp_path, dataclasses.replace(TAUGHT, student=Settings.model_path))


def test_a_student_without_its_teachers_head_for_votes_is_refused_before_they_learn(
    split_folders, tmp_path, monkeypatch, exported_learner
):
    write_votes(split_folders / "fer2013new.csv", None, 1070)
    monkeypatch.setattr(distillation, "fit", lambda *_: pytest.fail("a teacher was trained"))
    with pytest.raises(RecipeError, match="has no head for votes"):
        student_of(split_folders, tmp_path, dataclasses.replace(TAUGHT, student=exported_learner))


def test_a_student_that_is_not_to_be_taught_is_refused(exported_learner):
    with pytest.raises(RecipeError, match="student_epochs is 0"):
        Recipe(student=exported_learner, student_epochs=0)


def test_a_run_of_all_that_was_stopped_goes_on_where_it_was(split_folders, tmp_path, monkeypatch):
    whole = student_of(split_folders, tmp_path / "whole", TAUGHT)
    teacher = teacher_of(split_folders, tmp_path / "stopped", TAUGHT)
    monkeypatch.setattr(distillation, "Teach", StoppingLesson)
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
