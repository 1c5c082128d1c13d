"""How well a model does on labelled faces: accuracy, recall, confusion, calibration."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from sklearn.metrics import confusion_matrix

from dexpression.errors import DataError
from dexpression.labels import LABEL_SETS, LabelSet
from dexpression.prediction import FaceClassifier
from dexpression.reading import Prediction
from dexpression.training.calibration import Bin, calibration_error, reliability
from dexpression.training.sources import VOTE_FILES, Face, FaceSet, Split, add_votes, find_votes, read_faces

logger = logging.getLogger(__name__)

BATCH = 256

Truth = Literal["labels", "votes"]


@dataclass(frozen=True)
class Evaluation:
    """Scores 0..1 over `n` faces. `confusion` counts faces: a row a true label, a column an answer, as in `labels`."""

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
        """For people, in plain text."""
        width = max(map(len, self.labels))
        lines = [
            f"n                 {self.n}",
            f"accuracy          {self.accuracy:.4f}",
            f"balanced accuracy {self.balanced_accuracy:.4f}",
            f"calibration error {self.ece:.4f}",
            "",
            f"{'':{width}}  recall  answered " + " ".join(f"{label[:8]:>8}" for label in self.labels),
        ]
        for label, row in zip(self.labels, self.confusion, strict=True):
            recall = self.recall[label]
            shown = "     -" if recall is None else f"{recall:6.3f}"
            lines.append(f"{label:{width}}  {shown}           " + " ".join(f"{count:8}" for count in row))
        return "\n".join(lines)


def evaluate(
    classifier: FaceClassifier,
    source: Path,
    labels: LabelSet | None = None,
    split: Split | None = None,
    truth: Truth = "labels",
    votes: Path | None = None,
) -> Evaluation:
    """Score a folder of class folders or fer2013.csv; raises DataError.

    Without `labels`: all that the model knows. Where the source has splits and none is named: its valid split. The
    truth is the label, or what most FER+ annotators saw: their `votes` lie in the source or beside it if not named.
    """
    vocabulary = LABEL_SETS[labels] if labels else classifier.labels
    found = read_faces(source, classifier.image_size)
    logger.info(found.report())
    if truth == "votes":
        found = add_votes(found, votes or _require_votes(source)).by_majority()
    faces = _chosen_split(found, split).of_labels(vocabulary).faces
    return score([face.label for face in faces], list(predict_faces(classifier, faces)), vocabulary)


def score(truth: Sequence[str], predictions: Sequence[Prediction], labels: Sequence[str]) -> Evaluation:
    """Compare predictions with true labels, one each, as if `labels` were all: faces of others are left out."""
    kept = [(true, given.among(labels)) for true, given in zip(truth, predictions, strict=True) if true in labels]
    truth, predictions = [true for true, _ in kept], [given for _, given in kept]
    answers = [prediction.emotion for prediction in predictions]
    confusion = confusion_matrix(truth, answers, labels=list(labels))
    occurring = confusion.sum(axis=1)
    recall = {
        label: float(confusion[index, index] / occurring[index]) if occurring[index] else None
        for index, label in enumerate(labels)
    }
    right = np.array([answer == true for answer, true in zip(answers, truth, strict=True)])
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


def _require_votes(source: Path) -> Path:
    votes = find_votes(source) or find_votes(source.parent)
    if votes is None:
        raise DataError(
            f"No FER+ votes in {source.name} or beside it. Put {' or '.join(VOTE_FILES)} there, or name it."
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


def predict_faces(classifier: FaceClassifier, faces: Sequence[Face]) -> Iterator[Prediction]:
    """One prediction a face, a batch at a time."""
    for start in range(0, len(faces), BATCH):
        yield from classifier.predict([face.image for face in faces[start : start + BATCH]])
