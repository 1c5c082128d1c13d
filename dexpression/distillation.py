"""A network taught by labels, then by the answers of two that were: a student of its own and of another's."""

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

from dexpression.training import Recipe, create_learner, fit, run_cycle, run_folder

logger = logging.getLogger(__name__)

STUDENT_PEAK = 0.5  # of the recipe's learning rate: the student starts from weights that are good already


def train_network(dataloaders: DataLoaders, recipe: Recipe, runs: Path) -> Learner:
    """The whole recipe; a stopped run goes on where it was."""
    learner = create_learner(dataloaders, recipe)
    fit(learner, recipe, runs)
    return train_student(learner, recipe, runs) if recipe.student_epochs else learner


def train_student(learner: Learner, recipe: Recipe, runs: Path) -> Learner:
    """Go on from a learner that `fit` trained; it and one more, which is trained first, are the teachers.

    The student sees no label and no vote: what it is told differs with every change of a face, so that it cannot be
    learnt by heart, and the mean of two networks is right more often than either (see notebooks/experiments.md).
    """
    another = dataclasses.replace(recipe, seed=recipe.seed + 1, weight_decay=recipe.teacher_decay)
    other = create_learner(learner.dls, another)
    logger.info("The second teacher, %d epochs", recipe.epochs)
    fit(other, another, runs)
    logger.info("The student of both, %d epochs", recipe.student_epochs)
    # Smoothing and weights are in what the teachers answer.
    student = create_learner(learner.dls, dataclasses.replace(recipe, label_smoothing=0.0, balance=0.0))
    student.model.load_state_dict(learner.model.state_dict())
    lesson = Teach([learner.model, other.model])
    peak = STUDENT_PEAK * recipe.learning_rate
    run_cycle(student, recipe, run_folder(student, recipe, runs), recipe.student_epochs, peak, lesson)
    return student


class Teach(Callback):
    """Put teachers' answers, of each head, to the very faces of a batch in place of its labels and votes.

    The teacher sees what the student sees, changed as it is (Beyer et al. 2022, "A good teacher is patient and
    consistent"), but mirrored every other time, since both are the same face. Each face is read by one teacher alone:
    over the epochs that teaches their mean, at the price of one.
    """

    order = 50  # after the precision is set

    def __init__(self, teachers: Sequence[nn.Module]) -> None:
        self.teachers = [teacher.eval() for teacher in teachers]

    def before_batch(self) -> None:
        if self.training:
            answers = self._answers(self.learn.xb[0])
            heads = answers.unbind(dim=1) if answers.dim() == 3 else (answers,)
            self.learn.yb = heads[: len(self.learn.yb)]  # where nobody voted, the second head learns nothing

    @torch.no_grad()
    def _answers(self, faces: Tensor) -> Tensor:
        seen = faces.flip(-1) if torch.rand(()) < 0.5 else faces
        parts = seen.chunk(len(self.teachers))  # of a shuffled batch
        logits = [teacher(part) for teacher, part in zip(self.teachers, parts, strict=False)]
        return torch.cat(logits).float().softmax(dim=-1)
