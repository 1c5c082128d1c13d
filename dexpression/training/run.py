"""A whole training run: from labelled faces to a trained learner, and from that to an export in model/."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastai.learner import Learner

from dexpression.artifact.export import export_learner, load_exported, strip_for_inference
from dexpression.artifact.manifest import Manifest, export_paths, files_in
from dexpression.artifact.quantisation import to_int8, to_onnx
from dexpression.engine import onnx_backend
from dexpression.errors import UnwritableArtifact, WorseModel
from dexpression.prediction import FaceClassifier
from dexpression.training.comparison import compare_with_former
from dexpression.training.conditions import Share, evaluate_conditions
from dexpression.training.crops import FaceCropper
from dexpression.training.data import images_per_label, read_labelled, split_faces, stack_pixels
from dexpression.training.digests import encode_digests, warn_of_overlap
from dexpression.training.evaluation import Scores, evaluate_backend, evaluate_learner
from dexpression.training.face_set import Face
from dexpression.training.fitting import create_learner, fit, prepare_run
from dexpression.training.plan import describe_plan
from dexpression.training.recipe import Recipe

CALIBRATION_FACES = 2_048
FEW_TRAIN, FEW_VALID = 50, 20  # faces of a label, below which a score is called uncertain

logger = logging.getLogger(__name__)


def train(
    source: Path, recipe: Recipe, output: Path, runs: Path, votes: Path | None = None, force: bool = False
) -> Manifest:
    """Train a network on the faces of `source` and export it into `output`; checkpoints go into `runs`.

    A run that was stopped continues. Raises DataError, RecipeError, BrokenCheckpoint, ArtifactError or, without
    `force`, WorseModel.
    """
    dataloaders, recipe = prepare_run(source, recipe, runs, votes)
    learner = create_learner(dataloaders, recipe)
    logger.info("%s", describe_plan(learner, recipe))
    if learner.start:
        warn_of_overlap(learner.start.manifest, dataloaders.valid_ds.items, "start")
    fit(learner, recipe, runs)
    return export_run(learner, recipe, source.resolve().name, output, force)


def export_run(learner: Learner, recipe: Recipe, data_name: str, output: Path, force: bool = False) -> Manifest:
    """Score a trained learner on its valid split, quantise it, and write the export into `output`.

    A former export there is kept beside it. Raises ArtifactError, or WorseModel if the former export is better on the
    same faces; with `force`, it is replaced all the same.
    """
    onnx_model = quantise_learner(learner, learner.dls.train_ds.items, recipe.image_size)
    backend, labels, readings = onnx_backend(onnx_model), list(learner.dls.vocab), list(learner.loss_func.readouts)
    classifier = FaceClassifier(backend, labels, recipe.image_size, readings)
    train_faces, valid_faces = learner.dls.train_ds.items, learner.dls.valid_ds.items
    comparison = compare_with_former(output, classifier, valid_faces)
    if comparison:
        logger.info("%s", comparison.report())
    if comparison and comparison.is_worse and not force:
        raise WorseModel(
            f"The new model is worse than the one in {output}, which stays. Nothing was exported. Give --force, or set "
            "force = True in the notebook, to replace it all the same; the finished run is not trained again."
        )
    start = learner.start and learner.start.manifest
    facts = {
        "recipe": recipe.facts(start),
        "data": {
            "name": data_name,
            "images": images_per_label(learner.dls),
            "digests": encode_digests(train_faces, start),
        },
        "history": learner.history,
        "results": {
            "split": "valid",
            "float32": _to_dict(evaluate_learner(learner)),
            "conditions": evaluate_on_conditions(classifier, valid_faces),
        }
        | _to_dict(evaluate_backend(backend, learner)),
    }
    keep_former_export(output)
    manifest = export_learner(learner, output, recipe.image_size, facts, onnx_model)
    logger.info("%s", describe_results(manifest))
    logger.info("Exported to %s. A server that serves this folder loads it within seconds.", output)
    return manifest


def evaluate_on_conditions(classifier: FaceClassifier, faces: Sequence[Face]) -> dict[str, Any] | None:
    """Score the first reading of a model on its own truth under all conditions; see `Robustness.to_dict`.

    None if no face has a truth.
    """
    reading = classifier.readings[0]
    labelled = [face.with_truth(reading) for face in faces]
    known = [face for face in labelled if face.label in classifier.labels]
    if not known:
        return None
    robustness = evaluate_conditions(classifier, known, classifier.labels, reading, detect="never")
    return {"reading": reading} | robustness.to_dict()


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
    logger.info("The former export is kept in %s. To go back, copy its files into %s.", previous, output)


def describe_results(manifest: Manifest) -> str:
    """The scores of the ONNX model on the valid split, a line each with its 95 % interval.

    They say where a score is no better than guessing, or uncertain because there are few faces.
    """
    lines = []
    for reading in manifest.readings:
        for name, result in manifest.results[reading].items():
            found, chance = Share.of_count(result["accuracy"], result["n"]), 1 / len(result["labels"])
            line = (
                f"{reading}, {name} labels: accuracy {found.share:.3f} "
                f"(95 % interval {found.lower:.3f} to {found.upper:.3f}), n = {found.n}"
            )
            poor = f": no better than guessing ({chance:.3f} if labels were equally frequent). Check the data."
            lines.append(line + (poor if result["balanced_accuracy"] <= chance else ""))
    return "\n".join([*lines, *_few_faces(manifest.data.get("images", {}))])


def _few_faces(images: dict[str, dict[str, int]]) -> list[str]:
    """A line about labels with few faces, if there are any."""
    labels = {label for counts in images.values() for label in counts}
    few = {split: min((counts.get(label, 0) for label in labels), default=0) for split, counts in images.items()}
    if few.get("train", FEW_TRAIN) >= FEW_TRAIN and few.get("valid", FEW_VALID) >= FEW_VALID:
        return []
    return [
        f"The rarest label has {few['train']} faces to train on and {few['valid']} to score, so these figures are "
        "uncertain. Score every face once: dexpression crossvalidate FOLDER"
    ]


def _to_dict(scores: Scores) -> dict[str, Any]:
    return {reading: {name: one.to_dict() for name, one in sets.items()} for reading, sets in scores.items()}


def export_again(model: Path, source: Path) -> Manifest:
    """Write an export anew, as this version of the package writes it, without training; what it records stays.

    An export of an older version thereby gets what its ONNX model lacks, such as evidence. `source` has the faces that
    it was trained on. Raises what `load_exported` does, or DataError.
    """
    learner, manifest = load_exported(model)
    cropper = FaceCropper(manifest.image_size, manifest.recipe.get("detect", "auto"))
    found = read_labelled(source, manifest.recipe.get("labels", "auto"), cropper)
    train_faces, _ = split_faces(found.faces, manifest.recipe.get("seed", 0))
    onnx_model = quantise_learner(learner, train_faces, manifest.image_size)
    facts = {name: getattr(manifest, name) for name in ("recipe", "data", "history", "results")}
    return export_learner(learner, export_paths(model).manifest.parent, manifest.image_size, facts, onnx_model)


def quantise_learner(learner: Learner, faces: Sequence[Face], image_size: int) -> bytes:
    """The learner as an ONNX model in int8; a sample of these faces, those of the training, gives the ranges."""
    sample = faces[:: max(1, len(faces) // CALIBRATION_FACES)]
    float32 = to_onnx(strip_for_inference(learner, image_size), image_size)
    content: bytes = to_int8(float32, stack_pixels(sample)).SerializeToString()
    return content
