"""Train a learner by a recipe, in a run that continues after a stop; then calibrate it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fastai.callback.progress  # noqa: F401  # progress bars, and Learner.no_bar
import torch
from fastai.callback.core import Callback
from fastai.callback.schedule import fit_one_cycle  # noqa: F401  # fastai patches it into Learner
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.torch_core import set_seed
from torch import Tensor, nn

from dexpression.artifact.export import load_exported
from dexpression.errors import RecipeError
from dexpression.network.architecture import DeXpression, build_network
from dexpression.network.loss import EmotionLoss, default_readouts, label_logits
from dexpression.training.augmentation import augmentations
from dexpression.training.calibration import calibrate
from dexpression.training.callbacks import (
    Bfloat16,
    Checkpoint,
    ProgressiveResizing,
    SeedEpochs,
    WeightAverage,
    is_faster_in_bfloat16,
)
from dexpression.training.data import face_dataloaders, fingerprint, has_votes, images_per_label
from dexpression.training.degradation import degradations
from dexpression.training.optimizer import muon
from dexpression.training.recipe import IMAGE_SIZES, Recipe

MOMENTUM = 0.95  # constant: the one-cycle schedule varies it for AdamW, but Muon is used with a fixed one

logger = logging.getLogger(__name__)


def recipe_dataloaders(source: Path, recipe: Recipe, votes: Path | None = None) -> DataLoaders:
    """Read the faces of `source` into DataLoaders as the recipe says; see `face_dataloaders`."""
    set_seed(recipe.seed)
    return face_dataloaders(
        source,
        size=recipe.image_size,
        votes=votes,
        seed=recipe.seed,
        **dataloader_options(recipe),
    )


def dataloader_options(recipe: Recipe) -> dict[str, Any]:
    """The arguments of `face_dataloaders` and `split_dataloaders` that a recipe decides."""
    return {
        "labels": recipe.labels,
        "with_votes": recipe.votes > 0,
        "batch_size": recipe.batch_size,
        "augmentations": [
            *augmentations(recipe.augmentation),
            *degradations(recipe.blur, recipe.shrink, recipe.exposure, recipe.jpeg, recipe.noise, recipe.cover),
        ],
    }


def resolve_precision(recipe: Recipe, dataloaders: DataLoaders, runs: Path) -> Recipe:
    """Replace the precision `auto` by that of an earlier run with this recipe in `runs`, or else by the faster one.

    Which is faster is measured, and a busy machine may measure otherwise. A run that continues has to keep its
    precision.
    """
    if recipe.precision != "auto":
        return recipe
    bfloat16, float32 = (dataclasses.replace(recipe, precision=name) for name in ("bfloat16", "float32"))
    for begun in (bfloat16, float32):
        if training_folder(dataloaders, begun, runs).exists():
            return begun
    return bfloat16 if is_faster_in_bfloat16(dataloaders.device) else float32


def create_learner(dataloaders: DataLoaders, recipe: Recipe) -> Learner:
    """Create an untrained learner; the same recipe gives the same weights. Its precision has to be resolved."""
    if recipe.precision == "auto":
        raise RecipeError("precision is auto. Choose bfloat16 or float32, or call resolve_precision first.")
    set_seed(recipe.seed)
    network = _start_network(recipe.start, dataloaders, recipe) if recipe.start else _new_network(dataloaders, recipe)
    device = dataloaders.device
    # Channels last: on a CPU the pooling beside a FeatEx block's convolutions takes a fifth of the time.
    network = network.to(device).to(memory_format=torch.channels_last)
    return Learner(
        dataloaders,
        network,
        loss_func=EmotionLoss(
            recipe.label_smoothing,
            recipe.votes,
            default_readouts(network.heads),
            class_weights=class_weights(dataloaders, recipe.balance),
        ),
        metrics=accuracy,
        opt_func=muon,
        wd=recipe.weight_decay,
        cbs=[Bfloat16(device.type)] if recipe.precision == "bfloat16" else [],
        path=Path("runs"),  # where fastai's learning rate finder keeps the weights that it puts back
    )


def fit(learner: Learner, recipe: Recipe, runs: Path) -> Path:
    """Train on labels, and on votes if there are any; returns the folder of the run. See `run_cycle`."""
    folder = training_folder(learner.dls, recipe, runs)
    resizing = ProgressiveResizing(*IMAGE_SIZES[recipe.network])
    run_cycle(learner, recipe, folder, recipe.epochs, recipe.learning_rate, resizing)
    return folder


def training_folder(dataloaders: DataLoaders, recipe: Recipe, runs: Path) -> Path:
    """The folder of a run of `fit`, before any self-distillation; see `run_folder`."""
    return run_folder(dataloaders, recipe, runs, ignored=("student_epochs", "teachers"))


def run_folder(dataloaders: DataLoaders, recipe: Recipe, runs: Path, ignored: Sequence[str] = ()) -> Path:
    """The folder of a run: its name is a digest of the data and of the options that decide what is learned.

    So a run never continues from the checkpoint of another. Options in `ignored` do not change the name.
    """
    ignored = ("start_share", *ignored)  # it changes the result of a run, not the run
    learned = {name: value for name, value in recipe.facts().items() if name not in ignored}
    identity = json.dumps([learned, fingerprint(dataloaders)], sort_keys=True)
    return runs / f"{recipe.network}-{recipe.labels}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"


def run_cycle(
    learner: Learner, recipe: Recipe, folder: Path, epochs: int, peak: float, batch_callback: Callback
) -> None:
    """Train for one cycle with the highest learning rate `peak`, from the folder's checkpoint if there is one.

    `batch_callback` changes every batch before the network learns from it. Afterwards the learner has the averaged
    weights and is calibrated.
    """
    folder.mkdir(parents=True, exist_ok=True)
    logger.info("Checkpoints of this run: %s", folder)
    callbacks = [
        SeedEpochs(recipe.seed),
        batch_callback,
        WeightAverage(recipe.ema_decay),
        Checkpoint(folder / "checkpoint.pth"),
    ]
    learner.fit_one_cycle(epochs, peak, moms=(MOMENTUM,) * 3, cbs=callbacks, reset_opt=True)
    # A copy, because every later prediction resets the recorder.
    learner.history = {
        "columns": list(learner.recorder.metric_names[1:-1]),
        "epochs": [[round(float(value), 4) for value in row] for row in learner.recorder.values],
    }
    if recipe.start and recipe.start_share:
        average_weights(learner.model, load_exported(recipe.start)[0].model, recipe.start_share)
    learner.remove_cb(Bfloat16)  # an exported learner answers in float32, so float32 is calibrated and scored
    calibrate(learner)


def average_weights(network: nn.Module, start: nn.Module, share: float) -> None:
    """Replace the weights and buffers of a network by a mean with those of another one, which has this share, 0..1."""
    others = start.state_dict()
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                tensor.lerp_(others[name].to(tensor), share)


def class_weights(dataloaders: DataLoaders, balance: float) -> Tensor | None:
    """Weights (C,), one per label, with mean 1 over the training images; None if all labels weigh the same.

    A label with n training images weighs n to the power of -`balance`.
    """
    if balance == 0:
        return None
    images = images_per_label(dataloaders)["train"]
    counts = torch.tensor([float(images.get(label, 0)) for label in dataloaders.vocab])
    weights = torch.where(counts > 0, counts**-balance, 0.0)  # label smoothing must not teach a label without images
    return weights * counts.sum() / (weights * counts).sum()


def accuracy(logits: Tensor, labels: Tensor, *_votes: Tensor) -> Tensor:
    """Accuracy, 0..1, of the head that learns labels."""
    return (label_logits(logits).argmax(dim=1) == labels).float().mean()


def _new_network(dataloaders: DataLoaders, recipe: Recipe) -> DeXpression:
    heads = 2 if has_votes(dataloaders) else 1
    return build_network(recipe.network, len(dataloaders.vocab), heads, recipe.image_size)


def _start_network(start: Path, dataloaders: DataLoaders, recipe: Recipe) -> DeXpression:
    learner, manifest = load_exported(start)
    network: DeXpression = learner.model
    given, wanted = (manifest.labels, manifest.image_size), (list(dataloaders.vocab), recipe.image_size)
    if given != wanted:
        raise RecipeError(
            f"{start.name} is for {_describe_input(*given)}; this run is for {_describe_input(*wanted)}. "
            "Choose the same."
        )
    if has_votes(dataloaders) and network.heads == 1:
        raise RecipeError(f"{start.name} has no head for votes, but these faces have votes. Set votes to 0.")
    return network


def _describe_input(labels: list[str], image_size: int) -> str:
    return f"{len(labels)} labels and {image_size}x{image_size} pixels"
