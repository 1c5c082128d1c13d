"""A network taught by the answers of others, which were taught by labels: the first of them, or an exported learner."""

from __future__ import annotations

import copy
import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from fastai.callback.core import Callback
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from torch import Tensor, nn

from dexpression.errors import RecipeError
from dexpression.training import Recipe, create_learner, fit, run_cycle, run_folder

logger = logging.getLogger(__name__)

STUDENT_PEAK = 0.1  # of the recipe's learning rate: at 0.5 a student of two forgot more than it learnt in 6 epochs


def train_network(dataloaders: DataLoaders, recipe: Recipe, runs: Path) -> Learner:
    """The whole recipe; a stopped run goes on where it was."""
    learner = create_learner(dataloaders, recipe)
    if recipe.student:
        create_student(learner, recipe)  # one that cannot be taught is told now, not after hours
    fit(learner, recipe, runs)
    return train_student(learner, recipe, runs) if recipe.student_epochs else learner


def train_student(learner: Learner, recipe: Recipe, runs: Path) -> Learner:
    """Teach a student what a learner that `fit` trained, and one more, which is trained first, answer.

    The student goes on from the first of them or, where the recipe names one, from an exported learner, which then is
    a third teacher. It sees no label and no vote: what it is told differs with every change of a face, so that it
    cannot be learnt by heart, and the mean of several networks is right more often than any (see
    notebooks/experiments.md).
    """
    another = dataclasses.replace(recipe, seed=recipe.seed + 1)
    other = create_learner(learner.dls, another)
    logger.info("The second teacher, %d epochs", recipe.epochs)
    fit(other, another, runs)
    student = create_student(learner, recipe)
    teachers = [learner.model, other.model, *([copy.deepcopy(student.model)] if recipe.student else [])]
    logger.info("The student of %d teachers, %d epochs", len(teachers), recipe.student_epochs)
    peak = STUDENT_PEAK * recipe.learning_rate
    run_cycle(student, recipe, run_folder(student, recipe, runs), recipe.student_epochs, peak, Teach(teachers))
    return student


def create_student(first: Learner, recipe: Recipe) -> Learner:
    """Yet to be taught. Raises RecipeError for an exported learner that its teachers cannot teach."""
    # Smoothing and weights are in what the teachers answer.
    unsmoothed = dataclasses.replace(recipe, start=recipe.student or recipe.start, label_smoothing=0.0, balance=0.0)
    student = create_learner(first.dls, unsmoothed)
    if not recipe.student:
        student.model.load_state_dict(first.model.state_dict())
    elif _shapes(student.model) != _shapes(first.model):
        raise RecipeError("The student is of another network, or has other heads, than its teachers. Name another.")
    return student


def _shapes(network: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in network.state_dict().items()}


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
