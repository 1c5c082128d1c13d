"""Self-distillation: a trained network continues to learn from the probabilities of several trained networks."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from fastai.callback.core import Callback
from fastai.learner import Learner
from torch import Tensor, nn

from dexpression.training.fitting import create_learner, fit, run_cycle, run_folder
from dexpression.training.recipe import Recipe

logger = logging.getLogger(__name__)

# Measured in notebooks/experiments.md, "Three seeds, and students of them".
STUDENT_PEAK = 0.2  # share of the recipe's learning rate: at 0.5 a student forgot more than it learned in 6 epochs


def train_student(learner: Learner, recipe: Recipe, runs: Path) -> Learner:
    """Train a student, which starts from the weights of a trained learner, on the probabilities of several teachers.

    The learner is the first teacher. The others are trained first, with the seeds that follow. The student learns
    from no label and no vote. Targets that change with every augmentation of a face cannot be memorised, and the mean
    of several networks is more accurate than each of them (see notebooks/experiments.md).
    """
    teachers = [learner.model]
    for seed in range(recipe.seed + 1, recipe.seed + recipe.teachers):
        other_recipe = dataclasses.replace(recipe, seed=seed)
        other = create_learner(learner.dls, other_recipe)
        logger.info("Teacher %d of %d, %d epochs", len(teachers) + 1, recipe.teachers, recipe.epochs)
        fit(other, other_recipe, runs)
        teachers.append(other.model)
    # The teachers' probabilities contain smoothing and class weights already.
    student = create_learner(learner.dls, dataclasses.replace(recipe, label_smoothing=0.0, balance=0.0))
    student.model.load_state_dict(learner.model.state_dict())
    logger.info("Student of %d teachers, %d epochs", len(teachers), recipe.student_epochs)
    peak = STUDENT_PEAK * recipe.learning_rate
    folder = run_folder(student.dls, recipe, runs)
    run_cycle(student, recipe, folder, recipe.student_epochs, peak, KnowledgeDistillation(teachers))
    return student


class KnowledgeDistillation(Callback):
    """Replace the labels and votes of a training batch by the teachers' probabilities, one set per head.

    Teacher and student see the same augmented faces (Beyer et al. 2022, "A good teacher is patient and consistent").
    Half of all batches, until the last fifth of the epochs, mix the faces in pairs. In half of all batches, chosen
    independently, the teachers see the faces mirrored, since both are the same expression. Each teacher reads a part
    of a batch, so that a batch costs one pass; over the epochs the student learns the mean of all teachers.
    """

    order = 50  # after the precision is set

    def __init__(self, teachers: Sequence[nn.Module]) -> None:
        self.teachers = [teacher.eval() for teacher in teachers]

    def before_batch(self) -> None:
        if not self.training:
            return
        faces = self.learn.xb[0]
        if self.epoch < 0.8 * self.n_epoch and torch.rand(()) < 0.5:
            faces = _mix_pairs(faces)
        targets = self._teach(faces)
        heads = targets.unbind(dim=1) if targets.dim() == 3 else (targets,)
        self.learn.xb = (faces,)
        self.learn.yb = heads[: len(self.learn.yb)]  # without votes, the second head learns nothing

    @torch.no_grad()
    def _teach(self, faces: Tensor) -> Tensor:
        seen = faces.flip(-1) if torch.rand(()) < 0.5 else faces
        parts = seen.chunk(len(self.teachers))  # the batch is shuffled, so any teacher may get any face
        logits = [teacher(part) for teacher, part in zip(self.teachers, parts, strict=False)]
        return torch.cat(logits).float().softmax(dim=-1)


def _mix_pairs(faces: Tensor) -> Tensor:
    """Mix each face of a batch (N, ...) with another one in a random share: such a face has no label to memorise."""
    shares = torch.rand(len(faces), *[1] * (faces.dim() - 1), device=faces.device)
    return torch.lerp(faces.flip(0), faces, shares)
