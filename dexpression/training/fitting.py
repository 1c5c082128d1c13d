"""Train a learner by a recipe, in a run that continues after a stop; then calibrate it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

import fastai.callback.progress  # noqa: F401  # progress bars, and Learner.no_bar
import torch
from fastai.callback.core import Callback
from fastai.callback.schedule import fit_one_cycle  # noqa: F401  # fastai patches it into Learner
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.torch_core import set_seed
from torch import Tensor, nn

from dexpression.artifact.export import load_network
from dexpression.artifact.manifest import Manifest
from dexpression.errors import RecipeError
from dexpression.network.architecture import DeXpression, build_network
from dexpression.network.loss import EmotionLoss, default_readouts, label_logits
from dexpression.training.augmentation import augmentations
from dexpression.training.calibration import calibrate
from dexpression.training.callbacks import (
    Bfloat16,
    Checkpoint,
    FixedStatistics,
    ProgressiveResizing,
    SeedEpochs,
    StopEarly,
    WeightAverage,
    is_faster_in_bfloat16,
)
from dexpression.training.crops import FaceCropper
from dexpression.training.data import (
    fingerprint,
    has_votes,
    images_per_label,
    make_dataloaders,
    read_labelled,
    split_faces,
)
from dexpression.training.degradation import DegradeFaces, degradations
from dexpression.training.distillation import KnowledgeDistillation
from dexpression.training.face_set import Face
from dexpression.training.optimizer import muon
from dexpression.training.recipe import IMAGE_SIZES, Recipe

MOMENTUM = 0.95  # constant: the one-cycle schedule varies it for AdamW, but Muon is used with a fixed one

logger = logging.getLogger(__name__)


class Start(NamedTuple):
    """The export that a run starts from. It is read once, since another may replace it while the run goes on."""

    network: DeXpression
    manifest: Manifest


def prepare_run(source: Path, recipe: Recipe, runs: Path, votes: Path | None = None) -> tuple[DataLoaders, Recipe]:
    """Read the faces of `source` into DataLoaders, and give every option of the recipe its value.

    Crops of larger pictures are kept in `runs`. Raises DataError or RecipeError.
    """
    cropper = FaceCropper(recipe.image_size, recipe.detect, runs / "crops")
    found = read_labelled(source, recipe.labels, cropper, votes)
    return prepare_split(*split_faces(found.faces, recipe.seed), recipe, runs)


def prepare_split(
    train: Sequence[Face], valid: Sequence[Face], recipe: Recipe, runs: Path
) -> tuple[DataLoaders, Recipe]:
    """Make DataLoaders from faces that are split already, and give every option of the recipe its value."""
    recipe = recipe.fitted_to(len(train), {face.label for face in train})
    set_seed(recipe.seed)
    dataloaders = make_dataloaders(
        train,
        valid,
        with_votes=recipe.votes > 0,
        batch_size=cast(int, recipe.batch_size),
        augmentations=augmentations(recipe.augmentation),
    )
    return dataloaders, resolve_precision(recipe, dataloaders, runs)


def resolve_precision(recipe: Recipe, dataloaders: DataLoaders, runs: Path) -> Recipe:
    """Replace the precision `auto` by that of an earlier run with this recipe in `runs`, or else by the faster one.

    Which is faster is measured, and a busy machine may measure otherwise. A run that continues has to keep its
    precision.
    """
    if recipe.precision != "auto":
        return recipe
    bfloat16, float32 = (dataclasses.replace(recipe, precision=name) for name in ("bfloat16", "float32"))
    start = Manifest.of_export(recipe.start) if recipe.start else None
    for begun in (bfloat16, float32):
        if run_folder(dataloaders, begun, runs, start).exists():
            return begun
    return bfloat16 if is_faster_in_bfloat16(dataloaders.device) else float32


def create_learner(dataloaders: DataLoaders, recipe: Recipe, start: Start | None = None) -> Learner:
    """Create a learner before its training; the same recipe, which `prepare_run` gives, makes the same weights.

    `start` is what `recipe.start` names, if it was read before.
    """
    if recipe.precision == "auto":
        raise RecipeError("precision is auto. Choose bfloat16 or float32, or call prepare_run first.")
    if recipe.start and not start:
        start = Start(*load_network(recipe.start))
    set_seed(recipe.seed)
    network = _start_network(start, dataloaders, recipe) if start else _new_network(dataloaders, recipe)
    device = dataloaders.device
    # Channels last: on a CPU the pooling beside a FeatEx block's convolutions takes a fifth of the time.
    network = network.to(device).to(memory_format=torch.channels_last)
    learner = Learner(
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
    learner.start = start
    return learner


def fit(learner: Learner, recipe: Recipe, runs: Path) -> Path:
    """Train for one cycle, from the checkpoint of the run if there is one; returns the folder of the run.

    Afterwards the learner has the averaged weights and is calibrated. Raises RecipeError or BrokenCheckpoint.
    """
    known = _known_network(learner, recipe) if recipe.start_share or recipe.teacher_share else None
    folder = run_folder(learner.dls, recipe, runs, learner.start and learner.start.manifest)
    folder.mkdir(parents=True, exist_ok=True)
    logger.info("Checkpoints of this run: %s", folder)
    checkpoint = Checkpoint(folder / "checkpoint.pth", learner.dls.device)
    learner.fit_one_cycle(
        recipe.epochs,
        recipe.learning_rate,
        moms=(MOMENTUM,) * 3,
        cbs=[*_callbacks(recipe, known), checkpoint],
        reset_opt=True,
    )
    # A copy, because every later prediction resets the recorder.
    learner.history = {
        "columns": list(learner.recorder.metric_names[1:-1]),
        "epochs": [[round(float(value), 4) for value in row] for row in learner.recorder.values],
    }
    if known and recipe.start_share:
        average_weights(learner.model, known, recipe.start_share)
    learner.remove_cb(Bfloat16)  # an exported learner answers in float32, so float32 is calibrated and scored
    calibrate(learner)
    return folder


def _callbacks(recipe: Recipe, teacher: nn.Module | None) -> list[Callback]:
    """The callbacks of a run, besides its checkpoint."""
    callbacks: list[Callback] = [
        SeedEpochs(recipe.seed),
        WeightAverage(recipe.ema_decay),
        DegradeFaces(degradations(recipe)),
        StopEarly(cast(int, recipe.patience)),
    ]
    if teacher and recipe.teacher_share:
        callbacks.append(KnowledgeDistillation(teacher, recipe.teacher_share))
    callbacks.append(ProgressiveResizing(*IMAGE_SIZES[recipe.network]) if recipe.from_scratch else FixedStatistics())
    return callbacks


def run_folder(dataloaders: DataLoaders, recipe: Recipe, runs: Path, start: Manifest | None = None) -> Path:
    """The folder of a run: its name is a digest of the data, the start, and the options that decide what is learned.

    So a run never continues from the checkpoint of another.
    """
    ignored = "start_share", "labels", "detect"  # the first changes the result of a run, the others are in the data
    learned = {name: value for name, value in recipe.facts(start).items() if name not in ignored}
    identity = json.dumps([learned, fingerprint(dataloaders)], sort_keys=True)
    return runs / f"{recipe.network}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"


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


def _start_network(start: Start, dataloaders: DataLoaders, recipe: Recipe) -> DeXpression:
    """The network of the recipe with the weights of the start; raises RecipeError if it is another network.

    Labels that the start does not know get random weights in the last layer, and a head for votes that it does not
    have gets those of its head for labels.
    """
    manifest = start.manifest
    given, wanted = (manifest.network["name"], manifest.image_size), (recipe.network, recipe.image_size)
    if given != wanted:
        raise RecipeError(
            f"The export in {recipe.start} is the network {given[0]} for {given[1]}x{given[1]} pixels; this run is for "
            f"{wanted[0]}. Choose --network {given[0]}, or --from-scratch."
        )
    network = _new_network(dataloaders, recipe)
    copy_weights(start.network, network, manifest.labels, list(dataloaders.vocab))
    return network


def copy_weights(source: DeXpression, target: DeXpression, known: Sequence[str], labels: Sequence[str]) -> None:
    """Copy all weights of a network into another one, which has other labels, or more or fewer heads.

    The rows of the last layer are copied for the labels that both have; the others stay as they are.
    """
    last = f"classifier.{_last_layer(target)}."
    trunk = {name: tensor for name, tensor in source.state_dict().items() if not name.startswith(last)}
    target.load_state_dict(trunk, strict=False)
    rows = [(labels.index(label), known.index(label)) for label in labels if label in known]
    with torch.no_grad():
        for given, wanted in zip(_rows(source), _rows(target), strict=True):
            for head in range(target.heads):
                for row, known_row in rows:
                    wanted[head, row] = given[min(head, source.heads - 1), known_row]


def _last_layer(network: DeXpression) -> int:
    """The place in the classifier of its linear layer, which only the shape of the logits may follow."""
    layers = list(cast(nn.Sequential, network.classifier))
    return max(place for place, layer in enumerate(layers) if isinstance(layer, nn.Linear))


def _rows(network: DeXpression) -> tuple[Tensor, Tensor]:
    """Weights (heads, C, features) and biases (heads, C) of the last layer, which share its memory."""
    linear = cast(nn.Linear, cast(nn.Sequential, network.classifier)[_last_layer(network)])
    return linear.weight.detach().view(network.heads, -1, linear.in_features), linear.bias.detach().view(
        network.heads, -1
    )


def _known_network(learner: Learner, recipe: Recipe) -> nn.Module:
    """The network of the start for the labels of the run; raises RecipeError if the start does not know one."""
    unknown = set(learner.dls.vocab) - set(learner.start.manifest.labels)
    if unknown:
        raise RecipeError(
            f"The start does not know {', '.join(sorted(unknown))}. Set teacher_share and start_share to 0."
        )
    network = _start_network(learner.start, learner.dls, recipe)
    return network.to(learner.dls.device).to(memory_format=torch.channels_last)
