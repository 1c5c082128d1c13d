"""What a training run is going to do, in words: its faces, its start, its epochs, and about how long it takes."""

from __future__ import annotations

import copy
import time
import timeit
from collections.abc import Callable

import torch
from fastai.learner import Learner
from torch import nn

from dexpression.training.data import images_per_label
from dexpression.training.recipe import Recipe

TIMED_FACES = 16
OVERHEAD = 1.3  # a run's time / the time of forward and backward: augmentation, optimizer, validation


def describe_plan(learner: Learner, recipe: Recipe, folds: int = 1) -> str:
    """Format the number of images by label and split, the start, the epochs and the expected minutes of all folds."""
    images = images_per_label(learner.dls)
    train, valid = images["train"], images["valid"]
    width = max(map(len, train))
    start = "random weights" if recipe.from_scratch else f"the export in {recipe.start}"
    minutes = folds * expected_seconds(learner, recipe) / 60
    whole = f" for all {folds} folds" if folds > 1 else ""
    return "\n".join(
        [
            f"{'':{width}}  train  valid",
            *(f"{label:{width}}  {train[label]:5}  {valid.get(label, 0):5}" for label in train),
            f"Start: {start}. {recipe.epochs} epochs in batches of {recipe.batch_size}, in {recipe.precision}: about "
            + (f"{minutes:.0f} minutes" if minutes >= 1.5 else "a minute")
            + f"{whole}, if nothing else runs on this machine.",
        ]
    )


def expected_seconds(learner: Learner, recipe: Recipe) -> float:
    """The time of the whole run if nothing else runs on this machine, from that of one forward and backward pass."""
    device, network = learner.dls.device, copy.deepcopy(learner.model)
    faces = torch.rand(TIMED_FACES, 1, recipe.image_size, recipe.image_size, device=device)
    seconds = _cpu_seconds if device.type == "cpu" else _gpu_seconds
    images = len(learner.dls.train_ds) * (recipe.epochs or 0)
    one_pass = seconds(lambda: _pass(network, faces, recipe.precision == "bfloat16"))
    return OVERHEAD * one_pass / TIMED_FACES * images


def _cpu_seconds(run: Callable[[], None]) -> float:
    """The processor time of one thread, divided by the number of threads.

    The clock does not tell: beside other work, threads wait for each other, and a pass was seen to take fifty times as
    long.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return min(timeit.repeat(run, timer=time.process_time, number=1, repeat=3)) / threads
    finally:
        torch.set_num_threads(threads)


def _gpu_seconds(run: Callable[[], None]) -> float:
    return min(timeit.repeat(run, timer=_finished_time, number=1, repeat=3))


def _finished_time() -> float:
    """The time on the clock when the GPU has finished all work."""
    torch.accelerator.synchronize()
    return time.perf_counter()


def _pass(network: nn.Module, faces: torch.Tensor, in_bfloat16: bool) -> None:
    with torch.autocast(faces.device.type, dtype=torch.bfloat16, enabled=in_bfloat16):
        loss = network(faces).float().sum()
    loss.backward()
