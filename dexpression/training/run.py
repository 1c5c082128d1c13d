"""A whole training run: from labelled faces to a trained learner, and from that to an export in model/."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

from fastai.data.core import DataLoaders
from fastai.learner import Learner

from dexpression.artifact.export import export_learner, strip_for_inference
from dexpression.artifact.manifest import Manifest, files_in
from dexpression.artifact.quantisation import to_int8, to_onnx
from dexpression.engine import onnx_backend
from dexpression.errors import UnwritableArtifact
from dexpression.training.data import images_per_label, stack_pixels
from dexpression.training.distillation import train_student
from dexpression.training.evaluation import Scores, evaluate_backend, evaluate_learner
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
        "results": {"split": "valid", "float32": _to_dict(evaluate_learner(learner))}
        | _to_dict(evaluate_backend(onnx_backend(onnx_model), learner)),
    }
    keep_former_export(output)
    manifest = export_learner(learner, output, recipe.image_size, facts, onnx_model)
    logger.info("%s", describe_results(manifest))
    logger.info("Exported to %s. A server that serves this folder loads it within seconds.", output)
    return manifest


def keep_former_export(output: Path) -> None:
    """Copy the export in `output`, if there is one, to the folder beside it whose name ends in `.previous`."""
    former = [path for path in files_in(output) if path.exists()]
    if not former:
        return
    previous = output.with_name(f"{output.name}.previous")
    try:
        previous.mkdir(exist_ok=True)
        for path in files_in(previous):
            path.unlink(missing_ok=True)
        for path in former:
            shutil.copy2(path, previous)
    except OSError as error:
        raise UnwritableArtifact(
            f"The export in {output} cannot be kept in {previous} ({error.strerror}). Make room there, or choose "
            "another folder for the new one."
        ) from error
    logger.info("The former export is kept in %s.", previous)


def describe_results(manifest: Manifest) -> str:
    """The scores of the ONNX model on the valid split, a line each; it says where one is no better than guessing."""
    lines = []
    for reading in manifest.readings:
        for name, result in manifest.results[reading].items():
            chance = 1 / len(result["labels"])
            line = f"{reading}, {name} labels: accuracy {result['accuracy']:.3f}, n = {result['n']}"
            poor = f": no better than guessing ({chance:.3f} if labels were equally frequent). Check the data."
            lines.append(line + (poor if result["balanced_accuracy"] <= chance else ""))
    return "\n".join(lines)


def _to_dict(scores: Scores) -> dict[str, Any]:
    return {reading: {name: one.to_dict() for name, one in sets.items()} for reading, sets in scores.items()}


def quantise_learner(learner: Learner, image_size: int) -> bytes:
    """The learner as an ONNX model in int8; a sample of its unaugmented training faces gives the ranges."""
    faces = learner.dls.train_ds.items
    sample = faces[:: max(1, len(faces) // CALIBRATION_FACES)]
    float32 = to_onnx(strip_for_inference(learner, image_size), image_size)
    content: bytes = to_int8(float32, stack_pixels(sample)).SerializeToString()
    return content
