"""Scores of a model, a backend or a learner on labelled faces: accuracy, recall, confusion, calibration."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from PIL import Image

from dexpression.engine import Backend
from dexpression.errors import DataError, UnknownLabels
from dexpression.labels import LabelSet, ReadingName, find_label, label_sets, list_labels, to_label
from dexpression.prediction import FaceClassifier, name_probabilities
from dexpression.reading import Prediction
from dexpression.training.crops import FaceCropper
from dexpression.training.face_set import CropDetect, Face, FaceSet, Split
from dexpression.training.sources import read_faces
from dexpression.training.tables import VOTE_FILES, add_votes, find_votes

if TYPE_CHECKING:
    from fastai.learner import Learner

logger = logging.getLogger(__name__)

BATCH = 256
BINS = 15
Bin = tuple[int, float, float]  # number of predictions, their mean confidence, their accuracy
Truth = Literal["labels", "votes"]


@dataclass(frozen=True)
class Evaluation:
    """Scores 0..1 over `n` faces.

    `confusion` counts faces: each row is a true label, each column a predicted one, both in the order of `labels`.
    """

    n: int
    accuracy: float
    balanced_accuracy: float  # mean recall over the labels that occur
    recall: dict[str, float | None]  # None for a label that does not occur
    confusion: list[list[int]]
    ece: float  # expected calibration error over 15 bins of equal width
    reliability: list[Bin]
    labels: list[str]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def table(self) -> str:
        """Format the scores as plain text, with the confusion matrix."""
        lines = [
            f"n                 {self.n}",
            f"accuracy          {self.accuracy:.4f}",
            f"balanced accuracy {self.balanced_accuracy:.4f}",
            f"calibration error {self.ece:.4f}",
            "",
        ]
        return "\n".join([*lines, *confusion_table(self.labels, self.confusion)])


def confusion_table(labels: Sequence[str], confusion: Sequence[Sequence[int]]) -> list[str]:
    """Format a confusion matrix (rows: true labels, columns: predicted ones), with the recall of each label."""
    width = max(map(len, labels))
    widths = [max(8, len(label)) for label in labels]
    lines = [f"{'':{width}}  recall  predicted " + _in_columns(labels, widths)]
    for number, (label, row) in enumerate(zip(labels, confusion, strict=True)):
        shown = f"{row[number] / sum(row):6.3f}" if sum(row) else "     -"
        lines.append(f"{label:{width}}  {shown}            " + _in_columns(row, widths))
    return lines


def _in_columns(values: Sequence[object], widths: Sequence[int]) -> str:
    return " ".join(f"{value!s:>{width}}" for value, width in zip(values, widths, strict=True))


def evaluate(
    classifier: FaceClassifier, faces: Sequence[Face], labels: Sequence[str], reading: ReadingName | None = None
) -> Evaluation:
    """Score a reading of a model on these faces, as if `labels` were the only ones; raises UnknownReading."""
    return score([face.label for face in faces], list(predict_faces(classifier, faces, reading)), labels)


def labelled_faces(
    classifier: FaceClassifier,
    source: Path,
    labels: LabelSet | None = None,
    split: Split | None = None,
    truth: Truth = "labels",
    votes: Path | None = None,
    detect: CropDetect = "auto",
) -> tuple[Sequence[Face], Sequence[str]]:
    """Read faces to score from class folders or fer2013.csv, each with its true label, and the labels to choose from.

    Larger pictures are cropped to their face as `detect` says; see `FaceCropper`. Without `labels`, the labels are all
    of the model. Without `split`, a source that has splits is scored on valid. The truth is either the labels or the
    FER+ majority vote. The file of votes is `votes`, or lies in the source or beside it. Folders are matched with the
    labels of the model (see `find_label`), and those that it does not know are left out. Raises DataError, and
    UnknownLabels if the model lacks one of `labels`.
    """
    vocabulary = _choose_labels(classifier.labels, labels)
    cropper = FaceCropper(classifier.image_size, detect)
    found = read_faces(source, cropper, lambda name: find_label(name, classifier.labels) or to_label(name))
    if truth == "votes":
        found = add_votes(found, votes or _require_votes(source)).by_majority()
    found = _chosen_split(found, split).of_labels(vocabulary)
    logger.info(found.report())
    return found.faces, vocabulary


def _choose_labels(known: Sequence[str], chosen: LabelSet | None) -> Sequence[str]:
    if chosen is None:
        return known
    sets = label_sets(known)
    if chosen not in sets:
        raise UnknownLabels(
            f"The model does not know all labels of the set {chosen}: it has {list_labels(known)}. "
            "Leave out --labels to score these."
        )
    return sets[chosen]


def score(truth: Sequence[str], predictions: Sequence[Prediction], labels: Sequence[str]) -> Evaluation:
    """Compare each prediction with its true label, as if `labels` were the only ones; other faces are left out.

    Raises DataError if no face is left.
    """
    kept = [(true, given.among(labels)) for true, given in zip(truth, predictions, strict=True) if true in labels]
    if not kept:
        raise DataError(f"No face to score has one of the labels {', '.join(labels)}.")
    truth, predictions = [true for true, _ in kept], [given for _, given in kept]
    predicted = [prediction.emotion for prediction in predictions]
    confusion = count_confusions(truth, predicted, labels)
    occurring = confusion.sum(axis=1)
    recall = {
        label: float(confusion[index, index] / occurring[index]) if occurring[index] else None
        for index, label in enumerate(labels)
    }
    right = np.array([label == true for label, true in zip(predicted, truth, strict=True)])
    bins = reliability(np.array([prediction.confidence for prediction in predictions]), right)
    return Evaluation(
        n=len(truth),
        accuracy=float(right.mean()),
        balanced_accuracy=float(np.mean([value for value in recall.values() if value is not None])),
        recall=recall,
        confusion=confusion.tolist(),
        ece=calibration_error(bins),
        reliability=bins,
        labels=list(labels),
    )


def count_confusions(truth: Sequence[str], predicted: Sequence[str], labels: Sequence[str]) -> np.ndarray:
    """Count faces by true label (rows) and predicted label (columns), both in the order of `labels`."""
    index = {label: number for number, label in enumerate(labels)}
    confusion = np.zeros((len(labels), len(labels)), int)
    np.add.at(confusion, ([index[label] for label in truth], [index[label] for label in predicted]), 1)
    return confusion


def reliability(confidence: np.ndarray, right: np.ndarray) -> list[Bin]:
    """Sort predictions into fifteen bins of confidence, of equal width, without the empty ones (Guo et al. 2017)."""
    numbers = np.minimum((confidence * BINS).astype(int), BINS - 1)
    members = [numbers == number for number in np.unique(numbers)]
    return [(int(inside.sum()), float(confidence[inside].mean()), float(right[inside].mean())) for inside in members]


def calibration_error(bins: Sequence[Bin]) -> float:
    """Expected calibration error, 0..1: the gap between confidence and accuracy, averaged over all predictions."""
    return sum(count * abs(confidence - right) for count, confidence, right in bins) / sum(
        count for count, _, _ in bins
    )


def _require_votes(source: Path) -> Path:
    votes = find_votes(source) or find_votes(source.parent)
    if votes is None:
        raise DataError(
            f"No FER+ votes in {source.name} or beside it. Put {' or '.join(VOTE_FILES)} there, "
            "or name the file of votes."
        )
    return votes


def _chosen_split(found: FaceSet, split: Split | None) -> FaceSet:
    splits = found.splits()
    if split is None and splits == {None}:
        return found
    chosen = split or "valid"
    if chosen not in splits:
        there = ", ".join(sorted(str(name) for name in splits if name)) or "no splits"
        raise DataError(f"{found.name} has no {chosen} split; it has {there}. Name one with --split, or its folder.")
    return found.of_split(chosen)


def predict_faces(
    classifier: FaceClassifier, faces: Sequence[Face], reading: ReadingName | None = None
) -> Iterator[Prediction]:
    """Predict one batch of faces after the other; yields one prediction per face."""
    yield from predict_crops(classifier, [face.image for face in faces], reading)


def predict_crops(
    classifier: FaceClassifier, crops: Sequence[Image.Image], reading: ReadingName | None = None
) -> Iterator[Prediction]:
    """Predict one batch of crops after the other; yields one prediction per crop."""
    for start in range(0, len(crops), BATCH):
        yield from classifier.predict(crops[start : start + BATCH], reading)


Scores = dict[str, dict[str, Evaluation]]  # by reading, and by label set


def evaluate_learner(learner: Learner) -> Scores:
    """Score each reading of a learner on its valid split, once for each label set that it knows.

    `labels` is compared with the labels, `people` with the FER+ majority vote. What fits no face is left out.
    """
    with learner.no_bar():
        logits = learner.get_preds(act=lambda logits: logits)[0]
    readouts = learner.loss_func.readouts
    return _score_readings({name: readout(logits).numpy() for name, readout in readouts.items()}, learner)


def evaluate_backend(backend: Backend, learner: Learner) -> Scores:
    """Score a backend on the learner's valid split; see `evaluate_learner`."""
    from dexpression.training.data import stack_pixels  # imports fastai, which `evaluate` does without

    pixels = stack_pixels(learner.dls.valid_ds.items)
    batches = [backend(pixels[start : start + BATCH]) for start in range(0, len(pixels), BATCH)]
    readings = list(learner.loss_func.readouts)
    return _score_readings({name: np.concatenate([rows[name] for rows in batches]) for name in readings}, learner)


def _score_readings(probabilities: Mapping[str, np.ndarray], learner: Learner) -> Scores:
    labels, faces = list(learner.dls.vocab), learner.dls.valid_ds.items
    scores: Scores = {}
    for reading, rows in probabilities.items():
        truth = [face.with_truth(cast(ReadingName, reading)).label for face in faces]
        predictions = name_probabilities(labels, rows)
        scores[reading] = {
            name: score(truth, predictions, members)
            for name, members in label_sets(labels).items()
            if not set(truth).isdisjoint(members)
        }
    return scores
