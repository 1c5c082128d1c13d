"""The recipe, and a run of it that can be stopped and gone on with."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import fastai.callback.progress  # noqa: F401  # progress bars, and Learner.no_bar
import torch
from fastai.callback.core import Callback
from fastai.callback.schedule import fit_one_cycle  # noqa: F401  # fastai patches it into Learner
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.torch_core import set_seed
from fastcore.foundation import noop
from torch import Tensor
from torch.nn import functional

from dexpression.artifact.export import load_exported
from dexpression.artifact.manifest import Manifest, manifest_path
from dexpression.errors import RecipeError
from dexpression.labels import LabelSet
from dexpression.network.architecture import DeXpression
from dexpression.network.loss import EmotionLoss, label_logits
from dexpression.training.augmentation import augmentations
from dexpression.training.calibration import fit_factors, fit_temperature
from dexpression.training.callbacks import (
    Bfloat16,
    Checkpoint,
    GrowFaces,
    SeedEpochs,
    WeightAverage,
    is_faster_in_bfloat16,
)
from dexpression.training.data import face_dataloaders, fingerprint, has_votes, images_per_label
from dexpression.training.optimizer import muon

Network = Literal["compact", "paper"]
Precision = Literal["auto", "bfloat16", "float32"]

RANGES = {
    "epochs": (1, 10_000),
    "batch_size": (2, 65_536),  # batch normalisation learns nothing from one image
    "learning_rate": (1e-8, 10.0),
    "weight_decay": (0.0, 1.0),
    "label_smoothing": (0.0, 0.9),
    "balance": (0.0, 1.0),
    "ema_decay": (0.0, 0.99999),
    "votes": (0.0, 10.0),
    "blend": (0.0, 1.0),
    "augmentation": (0.0, 2.0),
    "student_epochs": (0, 10_000),
    "teachers": (1, 100),
    "seed": (0, 2**31),  # every epoch adds a thousand, and numpy takes 32 bits
}
# Pixels a side in the first epochs and in the last. The paper's linear layer takes one size alone.
IMAGE_SIZES: dict[Network, tuple[int, int]] = {"compact": (32, 48), "paper": (224, 224)}

MOMENTUM = 0.95  # throughout: what one cycle varies for AdamW, Muon was made to keep

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a run learns, besides the data."""

    network: Network = "compact"
    labels: LabelSet = "seven"
    epochs: int = 60
    batch_size: int = 128
    learning_rate: float = 3e-3  # the peak of the cycle
    weight_decay: float = 0.2
    label_smoothing: float = 0.1
    balance: float = 0.5  # a label of n images weighs n to the power of minus this: DISGUST has a twentieth of HAPPY's
    ema_decay: float = 0.998  # of the averaged weights: about the last two epochs of FER2013
    votes: float = 1.0  # weight, beside the label's, of the head that learns FER+ votes; 0, or no votes: no such head
    blend: float = 0.35  # that head's share in the answer: a middle way between both truths, see model/README.md
    augmentation: float = 1.0  # strength of what is done to a training face, see `augmentation`
    precision: Precision = "auto"
    seed: int = 0
    start: Path | None = None  # an exported learner to go on from, instead of from nothing
    student_epochs: int = 0  # in which the network goes on, from teachers' answers; 0: it learns from labels alone
    teachers: int = 3  # itself as it was, and others trained alike, of the seeds that follow

    def __post_init__(self) -> None:
        for name, (lowest, highest) in RANGES.items():
            value = getattr(self, name)
            if not lowest <= value <= highest:
                raise RecipeError(f"{name} is {value}. It takes {lowest} to {highest}.")

    @property
    def image_size(self) -> int:
        return IMAGE_SIZES[self.network][1]

    def facts(self) -> dict[str, Any]:
        """The values as JSON takes them; of an exported learner the digest, wherever it lies."""
        return dataclasses.asdict(self) | {"start": self.start and Manifest.read(manifest_path(self.start)).sha256}


def recipe_dataloaders(source: Path, recipe: Recipe, votes: Path | None = None) -> DataLoaders:
    """The faces of `source` as this recipe sees them."""
    set_seed(recipe.seed)
    return face_dataloaders(
        source,
        size=recipe.image_size,
        votes=votes,
        seed=recipe.seed,
        **dataloader_options(recipe),
    )


def dataloader_options(recipe: Recipe) -> dict[str, Any]:
    """The recipe's part of the arguments of `face_dataloaders` and of `split_dataloaders`."""
    return {
        "labels": recipe.labels,
        "with_votes": recipe.votes > 0,
        "batch_size": recipe.batch_size,
        "augmentations": augmentations(recipe.augmentation),
    }


def create_learner(dataloaders: DataLoaders, recipe: Recipe) -> Learner:
    """A learner yet to be trained; the same recipe starts from the same weights."""
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
            recipe.blend if has_votes(dataloaders) else 0.0,
            class_weights=class_weights(dataloaders, recipe.balance),
        ),
        metrics=accuracy,
        opt_func=muon,
        wd=recipe.weight_decay,
        cbs=[Bfloat16(device.type)] if _is_in_bfloat16(recipe.precision, device) else [],
        path=Path("runs"),  # where fastai's learning rate finder keeps the weights it puts back
    )


def fit(learner: Learner, recipe: Recipe, runs: Path) -> Path:
    """Train on labels, and on votes where there are any, by the recipe; see `run_cycle`."""
    folder = run_folder(learner, recipe, runs, without=("student_epochs", "teachers"))
    run_cycle(learner, recipe, folder, recipe.epochs, recipe.learning_rate, GrowFaces(*IMAGE_SIZES[recipe.network]))
    return folder


def run_folder(learner: Learner, recipe: Recipe, runs: Path, without: Sequence[str] = ()) -> Path:
    """The folder named after the data and what of the recipe decides what is learnt: no run takes up another's."""
    unlearnt = {"blend", *without}  # the blend is of the answer alone
    learnt = {name: value for name, value in recipe.facts().items() if name not in unlearnt}
    identity = json.dumps([learnt, fingerprint(learner.dls)], sort_keys=True)
    return runs / f"{recipe.network}-{recipe.labels}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"


def run_cycle(learner: Learner, recipe: Recipe, folder: Path, epochs: int, peak: float, lesson: Callback) -> None:
    """Train for one cycle, from the folder's checkpoint if this very run was stopped.

    The lesson is what changes a batch before it is learnt. The learner ends up averaged and calibrated.
    """
    folder.mkdir(parents=True, exist_ok=True)
    logger.info("Checkpoints of this run: %s", folder)
    callbacks = [
        SeedEpochs(recipe.seed),
        lesson,
        WeightAverage(recipe.ema_decay),
        Checkpoint(folder / "checkpoint.pth"),
    ]
    learner.fit_one_cycle(epochs, peak, moms=(MOMENTUM,) * 3, cbs=callbacks, reset_opt=True)
    # Kept apart from the recorder, which every later prediction starts anew.
    learner.history = {
        "columns": list(learner.recorder.metric_names[1:-1]),
        "epochs": [[round(float(value), 4) for value in row] for row in learner.recorder.values],
    }
    learner.remove_cb(Bfloat16)  # an exported learner answers in float32, so that is what is calibrated and scored
    calibrate(learner)


def calibrate(learner: Learner) -> None:
    """Choose, on the valid split, the answer's factors, for labels and votes as they blend, and its temperature."""
    with learner.no_bar(), learner.removed_cbs([learner.recorder]):  # which would forget the run for this
        logits, truth = learner.get_preds(act=noop)
    labels, *shares = truth if has_votes(learner.dls) else (truth,)
    loss, logits = learner.loss_func, logits.double()
    blended = functional.one_hot(labels, len(learner.dls.vocab)).double()
    if shares:
        blended = torch.lerp(blended, shares[0].double(), loss.blend)
    loss.factors = fit_factors(lambda factors: loss.answer(logits, 1.0, factors), blended)
    loss.temperature = fit_temperature(lambda temperature: loss.answer(logits, temperature, loss.factors), labels)


def class_weights(dataloaders: DataLoaders, balance: float) -> Tensor | None:
    """A weight a label, 1 on average over the training images; None where all weigh the same."""
    if balance == 0:
        return None
    images = images_per_label(dataloaders)["train"]
    counts = torch.tensor([float(images.get(label, 0)) for label in dataloaders.vocab])
    weights = torch.where(counts > 0, counts**-balance, 0.0)  # what no image has is not to be learnt, smoothed or not
    return weights * counts.sum() / (weights * counts).sum()


def accuracy(logits: Tensor, labels: Tensor, *_votes: Tensor) -> Tensor:
    """Share of right answers, 0..1, of the head that learns labels."""
    return (label_logits(logits).argmax(dim=1) == labels).float().mean()


def _new_network(dataloaders: DataLoaders, recipe: Recipe) -> DeXpression:
    build = DeXpression.paper if recipe.network == "paper" else DeXpression.compact
    return build(classes=len(dataloaders.vocab), heads=2 if has_votes(dataloaders) else 1)


def _start_network(start: Path, dataloaders: DataLoaders, recipe: Recipe) -> DeXpression:
    learner, manifest = load_exported(start)
    network: DeXpression = learner.model
    given, wanted = (manifest.labels, manifest.image_size), (list(dataloaders.vocab), recipe.image_size)
    if given != wanted:
        raise RecipeError(f"{start.name} is for {_spell(*given)}; this run is for {_spell(*wanted)}. Choose the same.")
    if has_votes(dataloaders) and network.heads == 1:
        raise RecipeError(
            f"{start.name} has no head for votes, which these faces have. Set votes to 0, or name another."
        )
    return network


def _spell(labels: list[str], image_size: int) -> str:
    return f"{len(labels)} labels and {image_size}x{image_size} pixels"


def _is_in_bfloat16(precision: Precision, device: torch.device) -> bool:
    return is_faster_in_bfloat16(device) if precision == "auto" else precision == "bfloat16"
