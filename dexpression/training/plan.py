"""What a training run is going to do, in words: its faces, its start, its epochs, and about how long it takes."""

from __future__ import annotations

import copy
import timeit

import torch
from fastai.learner import Learner
from torch import nn

from dexpression.training.data import images_per_label
from dexpression.training.recipe import Recipe

TIMED_FACES = 16
OVERHEAD = 1.3  # a run's time / the time of forward and backward: augmentation, optimizer, validation


def describe_plan(learner: Learner, recipe: Recipe) -> str:
    """Format the number of images by label and split, the start, the epochs and the expected minutes."""
    images = images_per_label(learner.dls)
    train, valid = images["train"], images["valid"]
    width = max(map(len, train))
    start = "random weights" if recipe.from_scratch else f"the export in {recipe.start}"
    minutes = expected_seconds(learner, recipe) / 60
    return "\n".join(
        [
            f"{'':{width}}  train  valid",
            *(f"{label:{width}}  {train[label]:5}  {valid.get(label, 0):5}" for label in train),
            f"Start: {start}. {recipe.epochs} epochs in batches of {recipe.batch_size}, in {recipe.precision}: about "
            + (f"{minutes:.0f} minutes." if minutes >= 1 else "a minute."),
        ]
    )


def expected_seconds(learner: Learner, recipe: Recipe) -> float:
    """The time of the whole run, from that of one forward and backward pass on this machine."""
    network = copy.deepcopy(learner.model)
    faces = torch.rand(TIMED_FACES, 1, recipe.image_size, recipe.image_size, device=learner.dls.device)
    passes = timeit.repeat(lambda: _pass(network, faces, recipe.precision == "bfloat16"), number=1, repeat=3)
    images = len(learner.dls.train_ds) * (recipe.epochs or 0)
    return OVERHEAD * min(passes) / TIMED_FACES * images


def _pass(network: nn.Module, faces: torch.Tensor, in_bfloat16: bool) -> None:
    with torch.autocast(faces.device.type, dtype=torch.bfloat16, enabled=in_bfloat16):
        loss = network(faces).float().sum()
    loss.backward()
