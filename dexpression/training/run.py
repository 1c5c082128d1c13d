"""A whole training run: from labelled faces to a trained learner, and from that to an export in model/."""

from __future__ import annotations

import logging
from pathlib import Path

from fastai.data.core import DataLoaders
from fastai.learner import Learner

from dexpression.artifact.export import export_learner, strip_for_inference
from dexpression.artifact.manifest import Manifest
from dexpression.artifact.quantisation import to_int8, to_onnx
from dexpression.engine import onnx_backend
from dexpression.training.data import images_per_label, stack_pixels
from dexpression.training.distillation import train_student
from dexpression.training.evaluation import evaluate_backend, evaluate_learner
from dexpression.training.fitting import create_learner, fit, recipe_dataloaders, resolve_precision
from dexpression.training.recipe import Recipe

CALIBRATION_FACES = 2_048

logger = logging.getLogger(__name__)


def train(source: Path, recipe: Recipe, output: Path, runs: Path, votes: Path | None = None) -> Manifest:
    """Train a network on the faces of `source` and export it into `output`; checkpoints go into `runs`.

    A run that was stopped continues. Raises DataError, RecipeError or ArtifactError.
    """
    dataloaders = recipe_dataloaders(source, recipe, votes)
    recipe = resolve_precision(recipe, dataloaders, runs)
    learner = train_network(dataloaders, recipe, runs)
    return export_run(learner, recipe, source.resolve().name, output)


def train_network(dataloaders: DataLoaders, recipe: Recipe, runs: Path) -> Learner:
    """Train a learner by the whole recipe, self-distillation included; a run that was stopped continues."""
    learner = create_learner(dataloaders, recipe)
    fit(learner, recipe, runs)
    return train_student(learner, recipe, runs) if recipe.student_epochs else learner


def export_run(learner: Learner, recipe: Recipe, data_name: str, output: Path) -> Manifest:
    """Score a trained learner on its valid split, quantise it, and write the export into `output`."""
    onnx_model = quantise_learner(learner, recipe.image_size)
    facts = {
        "recipe": recipe.facts(),
        "data": {"name": data_name, "images": images_per_label(learner.dls)},
        "history": learner.history,
        "results": {"split": "valid"}
        | {name: result.to_dict() for name, result in evaluate_learner(learner).items()}
        | {"int8": evaluate_backend(onnx_backend(onnx_model), learner).to_dict()},
    }
    manifest = export_learner(learner, output, recipe.image_size, facts, onnx_model)
    logger.info("Exported to %s. A server that serves this folder loads it within seconds.", output)
    return manifest


def quantise_learner(learner: Learner, image_size: int) -> bytes:
    """The learner as an ONNX model in int8; a sample of its unaugmented training faces gives the ranges."""
    faces = learner.dls.train_ds.items
    sample = faces[:: max(1, len(faces) // CALIBRATION_FACES)]
    float32 = to_onnx(strip_for_inference(learner, image_size), image_size)
    content: bytes = to_int8(float32, stack_pixels(sample)).SerializeToString()
    return content
