"""The recipe of a training run: everything that decides what a network learns, besides the data. Imports no torch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from dexpression.artifact.manifest import Manifest, export_paths
from dexpression.errors import RecipeError
from dexpression.options import allowed_values, is_allowed, option
from dexpression.shipped import default_model_path
from dexpression.training.face_set import CropDetect

Network = Literal["compact", "paper"]
Precision = Literal["auto", "bfloat16", "float32"]
Vocabulary = Literal["auto", "five", "seven", "eight", "own"]

# Pixels a side in the first epochs and in the last. The paper's linear layer takes one size alone.
IMAGE_SIZES: dict[Network, tuple[int, int]] = {"compact": (32, 48), "paper": (224, 224)}

SCRATCH_EPOCHS = 60
MIN_EPOCHS = 6  # from the shipped weights


@dataclass(frozen=True)
class Recipe:
    """The options of a training run; raises RecipeError for a value that is not allowed.

    An option that is None follows from the data: see `Recipe.fitted_to`. Why the others are what they are:
    notebooks/experiments.md.
    """

    network: Network = option("compact", "`compact`: 48x48 pixels; `paper`: 224x224 pixels", choices=get_args(Network))
    labels: Vocabulary = option(
        "auto",
        "`auto`: the names of the folders, where known ones such as `happiness` become our labels; `own`: the names as "
        "they are; `five`: only the labels of `POST /`; `seven`: those of FER2013; `eight`: these and CONTEMPT",
        choices=get_args(Vocabulary),
    )
    detect: CropDetect = option(
        "auto",
        "`auto`: crop pictures over 64x64 pixels to their largest face, or take them whole if there is none; `always`: "
        "crop all, and leave out those without a face; `never`: take the centred square",
        choices=get_args(CropDetect),
    )
    from_scratch: bool = option(
        False, "start from random weights; only with as many faces as FER2013 has does that pay"
    )
    start: Path | None = option(
        None, "export to start from; without it, the one in `model/`, or else the one of the package", parse=Path
    )
    epochs: int | None = option(
        None, "epochs of training; by default fewer, the more images", parse=int, between=(1, 10_000)
    )
    # Batch normalisation learns nothing from one image.
    batch_size: int | None = option(
        None, "images in one step; by default a sixteenth, 8 to 128", parse=int, between=(2, 65_536)
    )
    learning_rate: float | None = option(
        None,
        "highest learning rate of the one-cycle schedule; by default 0.0003, or 0.003 from scratch",
        parse=float,
        between=(1e-8, 10.0),
    )
    patience: int | None = option(
        None,
        "epochs without a lower loss on valid after which the run ends with its best weights; by default half of them",
        parse=int,
        between=(1, 10_000),
    )
    weight_decay: float = option(0.2, "decoupled weight decay", between=(0.0, 1.0))
    label_smoothing: float = option(0.1, "share of a label's target that is spread over all labels", between=(0.0, 0.9))
    # At 0.5, DISGUST, with a twentieth of HAPPY's images, weighs 4.5 times as much an image.
    balance: float = option(
        0.5, "class weights: at 0 every image counts the same, at 1 every label", between=(0.0, 1.0)
    )
    # 0.998 averages about the last two epochs of FER2013. In a short run the average starts with a lower decay.
    ema_decay: float = option(
        0.998, "highest decay per step of the moving average of the weights, which is exported", between=(0.0, 0.99999)
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
    # Weights half-way between those before and after a training on degraded faces are nearly as robust as the latter,
    # and on clean faces as accurate as the former (Wortsman et al. 2022, arXiv:2109.01903).
    start_share: float | None = option(
        None,
        "share of the weights of the start in those of the result; by default half if it knows all labels, else none",
        parse=float,
        between=(0.0, 1.0),
    )
    teacher_share: float = option(
        0.0,
        "share of the answers of the start, for each face as it is before blur and so on, in what is learned",
        between=(0.0, 1.0),
    )

    def __post_init__(self) -> None:
        if self.start is not None:
            object.__setattr__(self, "start", Path(self.start))  # a notebook names it by text
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not is_allowed(field, value):
                whole = "whole numbers, " if field.metadata["parse"] is int and isinstance(value, float) else ""
                raise RecipeError(f"{field.name} is {value!r}. It takes {whole}{allowed_values(field)}.")
        if self.from_scratch and (self.start or self.start_share or self.teacher_share):
            raise RecipeError("from_scratch means that there is no start. Leave out one of the two.")

    def fitted_to(self, images: int, labels: Collection[str]) -> Recipe:
        """Give every option its value for so many training images of these labels; `start` has none from scratch.

        docs/training.md has the measurements behind the rule.
        """
        from_scratch = self.from_scratch or (self.network == "paper" and self.start is None)
        epochs = self.epochs or (SCRATCH_EPOCHS if from_scratch else max(MIN_EPOCHS, round(90 / images**0.25)))
        start = None if from_scratch else self.start or _default_start()
        return dataclasses.replace(
            self,
            from_scratch=from_scratch,
            start=start,
            start_share=_start_share(start, labels) if self.start_share is None else self.start_share,
            epochs=epochs,
            patience=self.patience or max(3, epochs // 2),
            batch_size=self.batch_size or min(128, max(8, 2 ** int(math.log2(max(1, images / 16))))),
            learning_rate=self.learning_rate or (3e-3 if from_scratch else 3e-4),
        )

    @property
    def image_size(self) -> int:
        """Pixels a side of the faces that the trained network takes."""
        return IMAGE_SIZES[self.network][1]

    def facts(self, start: Manifest | None) -> dict[str, Any]:
        """The options as JSON takes them; `start`, given by its manifest, becomes a digest instead of a path."""
        return dataclasses.asdict(self) | {"start": start.sha256 if start else None}


def _start_share(start: Path | None, labels: Collection[str]) -> float:
    known = Manifest.of_export(start).labels if start else []
    return 0.5 if set(labels) <= set(known) else 0.0


def _default_start() -> Path:
    """The folder of the export in `model/`, below the current folder, or else of the default export."""
    here = Path("model")
    return here if export_paths(here).manifest.exists() else default_model_path()


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
