"""The recipe of a training run: everything that decides what a network learns, besides the data. Imports no torch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from dexpression.artifact.manifest import Manifest, export_paths
from dexpression.errors import RecipeError
from dexpression.labels import LabelSet
from dexpression.options import allowed_values, is_allowed, option

Network = Literal["compact", "paper"]
Precision = Literal["auto", "bfloat16", "float32"]

# Pixels a side in the first epochs and in the last. The paper's linear layer takes one size alone.
IMAGE_SIZES: dict[Network, tuple[int, int]] = {"compact": (32, 48), "paper": (224, 224)}


@dataclass(frozen=True)
class Recipe:
    """The options of a training run; raises RecipeError for a value that is not allowed.

    The defaults train the shipped model from FER2013. Why they are what they are: notebooks/experiments.md.
    """

    network: Network = option("compact", "`compact`: 48x48 pixels; `paper`: 224x224 pixels", choices=get_args(Network))
    labels: LabelSet = option(
        "seven",
        "`five`: those of `POST /`; `seven`: those of FER2013; `eight`: these and CONTEMPT",
        choices=get_args(LabelSet),
    )
    epochs: int = option(60, "epochs of training on labels and votes", between=(1, 10_000))
    # Batch normalisation learns nothing from one image.
    batch_size: int = option(128, "images in one step", between=(2, 65_536))
    learning_rate: float = option(3e-3, "highest learning rate of the one-cycle schedule", between=(1e-8, 10.0))
    weight_decay: float = option(0.2, "decoupled weight decay", between=(0.0, 1.0))
    label_smoothing: float = option(0.1, "share of a label's target that is spread over all labels", between=(0.0, 0.9))
    # At 0.5, DISGUST, with a twentieth of HAPPY's images, weighs 4.5 times as much an image.
    balance: float = option(
        0.5, "class weights: at 0 every image counts the same, at 1 every label", between=(0.0, 1.0)
    )
    # 0.998 averages about the last two epochs of FER2013.
    ema_decay: float = option(
        0.998, "decay per step of the moving average of the weights, which is exported", between=(0.0, 0.99999)
    )
    votes: float = option(1.0, "weight of FER+ votes in the loss; 0 leaves out the votes' head", between=(0.0, 10.0))
    augmentation: float = option(
        1.0, "strength of random rotation, zoom, shift, lighting and erasing", between=(0.0, 2.0)
    )
    blur: float = option(1.0, "strength of random blur", between=(0.0, 2.0))
    shrink: float = option(1.0, "strength of random shrinking to few pixels", between=(0.0, 2.0))
    exposure: float = option(1.0, "strength of random light and contrast", between=(0.0, 2.0))
    jpeg: float = option(1.0, "strength of random JPEG compression", between=(0.0, 2.0))
    noise: float = option(1.0, "strength of random noise", between=(0.0, 2.0))
    cover: float = option(1.0, "strength of random covers of the lower face and the eyes", between=(0.0, 2.0))
    precision: Precision = option(
        "auto", "number format; `auto` measures which is faster on this machine", choices=get_args(Precision)
    )
    # Every epoch adds a thousand to the seed, and numpy takes 32 bits.
    seed: int = option(0, "seed of weights, batches and augmentation", between=(0, 2**31))
    start: Path | None = option(None, "export to continue from, instead of random weights", parse=Path)
    # Weights half-way between those before and after a training on degraded faces are nearly as robust as the latter,
    # and on clean faces as accurate as the former (Wortsman et al. 2022, arXiv:2109.01903).
    start_share: float = option(0.0, "share of the weights of `--start` in those of the result", between=(0.0, 1.0))
    student_epochs: int = option(0, "epochs of self-distillation after training", between=(0, 10_000))
    teachers: int = option(3, "networks that teach in self-distillation, the trained one included", between=(1, 100))

    def __post_init__(self) -> None:
        if self.start is not None:
            object.__setattr__(self, "start", Path(self.start))  # a notebook names it by text
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not is_allowed(field, value):
                whole = "whole numbers, " if isinstance(field.default, int) and isinstance(value, float) else ""
                raise RecipeError(f"{field.name} is {value!r}. It takes {whole}{allowed_values(field)}.")

    @property
    def image_size(self) -> int:
        """Pixels a side of the faces that the trained network takes."""
        return IMAGE_SIZES[self.network][1]

    def facts(self) -> dict[str, Any]:
        """The options as JSON takes them; `start` becomes the digest of that export, not its path."""
        start = self.start and Manifest.read(export_paths(self.start).manifest).sha256
        return dataclasses.asdict(self) | {"start": start}


def describe_recipe(recipe: Recipe) -> list[dict[str, str]]:
    """One row per option, for a table: its name, its value in `recipe`, the values it allows, and its meaning."""
    return [
        {
            "option": field.name,
            "value": str(getattr(recipe, field.name)),
            "allowed": allowed_values(field),
            "meaning": field.metadata["meaning"],
        }
        for field in dataclasses.fields(recipe)
    ]
