"""A network taught by the answers of several, itself among them, which were taught by labels."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from fastai.callback.core import Callback
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from torch import Tensor, nn

from dexpression.training.fitting import Recipe, create_learner, fit, run_cycle, run_folder

logger = logging.getLogger(__name__)

# What this and `Teach` do is measured in notebooks/experiments.md, "Three seeds, and students of them".
STUDENT_PEAK = 0.2  # of the recipe's learning rate: at 0.5 a student forgot more than it learnt in 6 epochs


def train_network(dataloaders: DataLoaders, recipe: Recipe, runs: Path) -> Learner:
    """The whole recipe; a stopped run goes on where it was."""
    learner = create_learner(dataloaders, recipe)
    fit(learner, recipe, runs)
    return train_student(learner, recipe, runs) if recipe.student_epochs else learner


def train_student(learner: Learner, recipe: Recipe, runs: Path) -> Learner:
    """Teach a student that goes on from a learner that `fit` trained what this and other teachers answer.

    The others are trained first, of the seeds that follow. The student sees no label and no vote: what it is told
    differs with every change of a face, so that it cannot be learnt by heart, and the mean of several networks is
    right more often than any (see notebooks/experiments.md).
    """
    teachers = [learner.model]
    for seed in range(recipe.seed + 1, recipe.seed + recipe.teachers):
        another = dataclasses.replace(recipe, seed=seed)
        other = create_learner(learner.dls, another)
        logger.info("Teacher %d of %d, %d epochs", len(teachers) + 1, recipe.teachers, recipe.epochs)
        fit(other, another, runs)
        teachers.append(other.model)
    # Smoothing and weights are in what the teachers answer.
    student = create_learner(learner.dls, dataclasses.replace(recipe, label_smoothing=0.0, balance=0.0))
    student.model.load_state_dict(learner.model.state_dict())
    logger.info("The student of %d, %d epochs", len(teachers), recipe.student_epochs)
    peak = STUDENT_PEAK * recipe.learning_rate
    run_cycle(student, recipe, run_folder(student, recipe, runs), recipe.student_epochs, peak, Teach(teachers))
    return student


class Teach(Callback):
    """Put teachers' answers, of each head, to the very faces of a batch in place of its labels and votes.

    The teacher sees what the student sees, changed as it is, and in every other batch mixed two and two until the last
    fifth of the epochs (Beyer et al. 2022, "A good teacher is patient and consistent"), but mirrored every other time,
    since both are the same face. Each face is read by one teacher alone: over the epochs that teaches their mean, at
    the price of one.
    """

    order = 50  # after the precision is set

    def __init__(self, teachers: Sequence[nn.Module]) -> None:
        self.teachers = [teacher.eval() for teacher in teachers]

    def before_batch(self) -> None:
        if not self.training:
            return
        faces = self.learn.xb[0]
        if self.epoch < 0.8 * self.n_epoch and torch.rand(()) < 0.5:
            faces = _mixed(faces)
        answers = self._answers(faces)
        heads = answers.unbind(dim=1) if answers.dim() == 3 else (answers,)
        self.learn.xb = (faces,)
        self.learn.yb = heads[: len(self.learn.yb)]  # where nobody voted, the second head learns nothing

    @torch.no_grad()
    def _answers(self, faces: Tensor) -> Tensor:
        seen = faces.flip(-1) if torch.rand(()) < 0.5 else faces
        parts = seen.chunk(len(self.teachers))  # of a shuffled batch
        logits = [teacher(part) for teacher, part in zip(self.teachers, parts, strict=False)]
        return torch.cat(logits).float().softmax(dim=-1)


def _mixed(faces: Tensor) -> Tensor:
    """Each face of a batch (N, ...) and another one, in shares drawn anew: of which no teacher knows a label."""
    shares = torch.rand(len(faces), *[1] * (faces.dim() - 1), device=faces.device)
    return torch.lerp(faces.flip(0), faces, shares)
