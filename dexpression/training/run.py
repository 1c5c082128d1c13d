"""From a trained learner to what lies in model/: scored, quantised, written; and the whole road there from faces."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from fastai.learner import Learner

from dexpression.artifact.export import export_learner, lean_learner
from dexpression.artifact.manifest import Manifest
from dexpression.artifact.quantisation import to_int8, to_onnx
from dexpression.engine import Engine, onnx_engine
from dexpression.labels import LABEL_SETS
from dexpression.network.architecture import count_multiply_adds
from dexpression.prediction import FaceClassifier, name_probabilities
from dexpression.training.data import has_votes, images_per_label, stack_pixels
from dexpression.training.distillation import train_network
from dexpression.training.evaluation import Evaluation, predict_faces, score
from dexpression.training.fitting import Recipe, recipe_dataloaders

CALIBRATION_FACES = 2_048

logger = logging.getLogger(__name__)


def train(source: Path, recipe: Recipe, output: Path, runs: Path, votes: Path | None = None) -> Manifest:
    """The whole road: faces -> DataLoaders -> Learner -> trained -> exported file and manifest in `output`."""
    learner = train_network(recipe_dataloaders(source, recipe, votes), recipe, runs)
    return export_run(learner, recipe, source.resolve().name, output)


def export_run(learner: Learner, recipe: Recipe, data_name: str, output: Path) -> Manifest:
    """Score a trained learner on its valid split and write it, with what is known of it, into `output`."""
    network = learner.model
    engine = int8_engine(learner, recipe.image_size)
    facts = {
        "network": {
            "name": recipe.network,
            "weights": sum(weight.numel() for weight in network.parameters()),
            "multiply_adds": count_multiply_adds(network, recipe.image_size),
        },
        "recipe": recipe.facts(),
        "data": {"name": data_name, "images": images_per_label(learner.dls)},
        "calibration": {
            "split": "valid",
            "temperature": learner.loss_func.temperature,
            "factors": dict(zip(learner.dls.vocab, learner.loss_func.factors.tolist(), strict=True)),
        },
        "history": learner.history,
        "results": {"split": "valid"}
        | {name: result.to_dict() for name, result in evaluate_learner(learner).items()}
        | {"int8": evaluate_engine(onnx_engine(engine), learner).to_dict()},
    }
    manifest = export_learner(learner, output, recipe.image_size, facts, engine)
    logger.info("Exported to %s; a running server takes it up; start one otherwise", output)
    return manifest


def evaluate_learner(learner: Learner) -> dict[str, Evaluation]:
    """Scores on the valid split, by the label sets that the learner knows and, where there are votes, by those.

    A truth that no face of the split has is left out.
    """
    labels = list(learner.dls.vocab)
    with learner.no_bar():
        probabilities = learner.get_preds()[0]
    predictions = name_probabilities(labels, probabilities.numpy())
    faces = learner.dls.valid_ds.items
    truth = [face.label for face in faces]
    truths: dict[str, tuple[list[str], Sequence[str]]] = {
        name: (truth, members) for name, members in LABEL_SETS.items() if set(members) <= set(labels)
    }
    if has_votes(learner.dls):
        truths["votes"] = [face.majority or "" for face in faces], labels
    return {
        name: score(true, predictions, members)
        for name, (true, members) in truths.items()
        if not set(true).isdisjoint(members)
    }


def int8_engine(learner: Learner, image_size: int) -> bytes:
    """The ONNX form, its ranges taken from training faces as they are."""
    faces = learner.dls.train_ds.items
    chosen = faces[:: max(1, len(faces) // CALIBRATION_FACES)]
    plain = to_onnx(lean_learner(learner, image_size), image_size)
    content: bytes = to_int8(plain, stack_pixels(chosen)).SerializeToString()
    return content


def evaluate_engine(engine: Engine, learner: Learner) -> Evaluation:
    """Scores of the ONNX form on the valid split, over all labels."""
    faces, labels = learner.dls.valid_ds.items, list(learner.dls.vocab)
    classifier = FaceClassifier(engine, labels, faces[0].image.width)
    return score([face.label for face in faces], list(predict_faces(classifier, faces)), labels)
