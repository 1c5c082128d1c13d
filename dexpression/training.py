"""The recipe, and a run of it that can be stopped and gone on with."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from fastai.callback.core import Callback, CancelEpochException
from fastai.callback.fp16 import AMPMode, MixedPrecision
from fastai.callback.schedule import fit_one_cycle  # noqa: F401  # fastai patches it into Learner
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.torch_core import set_seed
from torch import Tensor, nn
from torch.amp import autocast
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dexpression.architecture import DeXpression
from dexpression.augmentation import augmentations
from dexpression.data import face_dataloaders, fingerprint
from dexpression.labels import LabelSet

Network = Literal["compact", "paper"]
Precision = Literal["auto", "bfloat16", "float32"]

IMAGE_SIZES: dict[Network, int] = {"compact": 48, "paper": 224}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a run learns, besides the data."""

    network: Network = "compact"
    labels: LabelSet = "seven"
    epochs: int = 40
    batch_size: int = 128
    learning_rate: float = 2e-3  # the peak of the cycle
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    ema_decay: float = 0.998  # of the averaged weights: about the last two epochs of FER2013
    votes: float = 0.0  # weight of the FER+ votes in the loss, 0..1; above 0 the data needs them
    precision: Precision = "auto"
    seed: int = 0

    @property
    def image_size(self) -> int:
        return IMAGE_SIZES[self.network]


def recipe_dataloaders(source: Path, recipe: Recipe, votes: Path | None = None) -> DataLoaders:
    """The faces of `source` as this recipe sees them."""
    set_seed(recipe.seed)
    return face_dataloaders(
        source,
        labels=recipe.labels,
        size=recipe.image_size,
        votes=votes,
        with_votes=recipe.votes > 0,
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        augmentations=augmentations(),
    )


def create_learner(dataloaders: DataLoaders, recipe: Recipe) -> Learner:
    """An untrained learner; the same recipe starts from the same weights."""
    set_seed(recipe.seed)
    build = DeXpression.paper if recipe.network == "paper" else DeXpression.compact
    network = build(classes=len(dataloaders.vocab)).to(memory_format=torch.channels_last)
    return Learner(
        dataloaders,
        network,
        loss_func=EmotionLoss(recipe.label_smoothing, recipe.votes),
        metrics=accuracy,
        wd=recipe.weight_decay,
        cbs=_precision_callbacks(recipe.precision, dataloaders.device),
    )


def fit(learner: Learner, recipe: Recipe, runs: Path) -> Path:
    """Train by the recipe, from the last checkpoint if this very run was stopped; the learner ends up averaged.

    The run's folder, which is returned, is named after the recipe and the data, so no run takes up another's.
    """
    identity = json.dumps([dataclasses.asdict(recipe), fingerprint(learner.dls)], sort_keys=True)
    folder = runs / f"{recipe.network}-{recipe.labels}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    logger.info("Checkpoints of this run: %s", folder)
    callbacks = [SeedEpochs(recipe.seed), WeightAverage(recipe.ema_decay), Checkpoint(folder / "checkpoint.pth")]
    learner.fit_one_cycle(recipe.epochs, recipe.learning_rate, cbs=callbacks)
    return folder


def accuracy(logits: Tensor, labels: Tensor, *_votes: Tensor) -> Tensor:
    """Share of right answers, 0..1."""
    return (logits.argmax(dim=1) == labels).float().mean()


class EmotionLoss(nn.Module):
    """Smoothed cross-entropy on the label, mixed with cross-entropy on the share of votes where there are any."""

    def __init__(self, label_smoothing: float = 0.0, votes: float = 0.0, reduction: str = "mean") -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.votes = votes
        self.reduction = reduction  # fastai sets it to "none" to find the worst mistakes

    def forward(self, logits: Tensor, labels: Tensor, shares: Tensor | None = None) -> Tensor:
        target = functional.one_hot(labels, logits.shape[1]).to(logits.dtype)
        if shares is not None:
            voted = shares.sum(dim=1, keepdim=True) > 0
            target = torch.where(voted, torch.lerp(target, shares.to(target), self.votes), target)
        return functional.cross_entropy(
            logits, target, label_smoothing=self.label_smoothing, reduction=self.reduction
        )

    def activation(self, logits: Tensor) -> Tensor:
        return logits.softmax(dim=-1)

    def decodes(self, logits: Tensor) -> Tensor:
        return logits.argmax(dim=-1)


class SeedEpochs(Callback):  # type: ignore[misc]
    """Make an epoch's randomness depend on the seed and its number alone: a run gone on with equals one never stopped."""

    order = -90

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def before_epoch(self) -> None:
        seed = self.seed + 1_000 * self.epoch
        set_seed(seed)
        self.learn.dls.train.rng = random.Random(seed)


class WeightAverage(Callback):  # type: ignore[misc]
    """Validate, and end, with the exponential moving average of the weights."""

    order = -80  # before fastai puts the model into evaluation mode

    def __init__(self, decay: float) -> None:
        self.decay = decay

    def before_fit(self) -> None:
        self.network = self.learn.model
        self.average = AveragedModel(
            self.network, multi_avg_fn=get_ema_multi_avg_fn(self.decay), use_buffers=True
        )

    def after_step(self) -> None:
        self.average.update_parameters(self.network)

    def before_validate(self) -> None:
        self.learn.model = self.average.module

    def after_validate(self) -> None:
        self.learn.model = self.network

    def after_fit(self) -> None:
        self.learn.model = self.average.module


class Checkpoint(Callback):  # type: ignore[misc]
    """Save the run after every epoch, and take it up where it was saved; finished epochs are shown, not repeated."""

    order = 70  # after the recorder, whose table finished epochs are put back into

    def __init__(self, file: Path) -> None:
        self.file = file

    def before_fit(self) -> None:
        self.finished: list[list[float]] = []
        if not self.file.exists():
            return
        state = torch.load(self.file, map_location=self.learn.dls.device, weights_only=True)
        self.learn.weight_average.network.load_state_dict(state["network"])
        self.learn.weight_average.average.load_state_dict(state["average"])
        optimizer = self.learn.opt
        optimizer.load_state_dict({"state": state["optimizer"], "hypers": optimizer.hypers})
        self.finished, self.curves, self.smooth_loss = state["epochs"], state["curves"], state["smooth_loss"]

    def before_epoch(self) -> None:
        if self.epoch < len(self.finished):
            self.learn.recorder.log += self.finished[self.epoch]
            raise CancelEpochException

    def before_train(self) -> None:
        if self.epoch == len(self.finished):
            self._restore_curves()

    def after_fit(self) -> None:
        if self.n_epoch == len(self.finished):
            self._restore_curves()

    def after_epoch(self) -> None:
        if self.epoch < len(self.finished):
            return
        recorder = self.learn.recorder
        partial = self.file.with_suffix(".partial")  # a run stopped while saving keeps its last checkpoint
        torch.save(
            {
                "network": self.learn.weight_average.network.state_dict(),
                "average": self.learn.weight_average.average.state_dict(),
                "optimizer": list(self.learn.opt.state_dict()["state"]),  # the schedule sets the rest
                "epochs": [[float(value) for value in row] for row in recorder.values],
                "curves": {
                    "losses": torch.tensor(recorder.losses),
                    "lrs": torch.tensor(recorder.lrs),
                    "iters": torch.tensor(recorder.iters),
                },
                "smooth_loss": {"count": recorder.smooth_loss.count, "val": recorder.smooth_loss.val},
            },
            partial,
        )
        partial.replace(self.file)

    def _restore_curves(self) -> None:
        if self.finished:
            for name, values in self.curves.items():
                setattr(self.learn.recorder, name, list(values))
            vars(self.learn.recorder.smooth_loss).update(self.smooth_loss)


class Bfloat16(MixedPrecision):  # type: ignore[misc]
    """fastai's mixed precision on whatever device the data is on; its own is for CUDA alone."""

    def __init__(self, device_type: str) -> None:
        super().__init__(amp_mode=AMPMode.BF16)
        self.device_type = device_type

    def before_fit(self) -> None:
        super().before_fit()
        self.autocast = autocast(self.device_type, dtype=torch.bfloat16)


def _precision_callbacks(precision: Precision, device: torch.device) -> list[Any]:
    wanted = _is_faster_in_bfloat16(device) if precision == "auto" else precision == "bfloat16"
    return [Bfloat16(device.type)] if wanted else []


def _is_faster_in_bfloat16(device: torch.device) -> bool:
    """True for GPUs that have it, and for CPUs that multiply in it (AMX).

    AVX512-BF16 without AMX stays in float32: there a step of the compact network took 1.07 to 1.25 times as long.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and torch.cpu._is_amx_tile_supported()
