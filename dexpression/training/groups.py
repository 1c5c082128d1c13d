"""Accuracy by group of people, such as age or skin tone, from a file that says to which group each face belongs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from dexpression.errors import DataError
from dexpression.labels import ReadingName
from dexpression.prediction import FaceClassifier
from dexpression.reading import Prediction
from dexpression.training.conditions import Share
from dexpression.training.evaluation import predict_faces
from dexpression.training.face_set import Face
from dexpression.training.tables import read_rows

SAMPLES = 2_000  # of the bootstrap
COLUMNS = ("file", "group")


@dataclass(frozen=True)
class GroupScores:
    """The accuracy of each group, and the largest gap between two of them, 0..1, with its 95 % bootstrap interval."""

    groups: dict[str, Share]
    gap: float
    gap_lower: float
    gap_upper: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def table(self) -> str:
        """Format one line per group, and one for the gap."""
        width = max(5, *map(len, self.groups))
        rows = [
            f"{name:{width}}  {share.n:6}  {share.share:.4f}    {share.lower:.3f} to {share.upper:.3f}"
            for name, share in self.groups.items()
        ]
        gap = f"largest gap {self.gap:.4f}, 95 % interval {self.gap_lower:.3f} to {self.gap_upper:.3f} (bootstrap)"
        return "\n".join([f"{'group':{width}}       n  accuracy  95 % interval", *rows, gap])


def read_groups(table: Path, faces: Sequence[Face]) -> list[str]:
    """The group of each face, from a CSV file with the columns file and group; raises DataError if one has none.

    A file is given by its path below the folder of the faces, or by its name alone.
    """
    groups = {row["file"] or "": row["group"] or "" for row in read_rows(table, COLUMNS)}
    found = [groups.get(face.name) or groups.get(PurePath(face.name).name) or "" for face in faces]
    missing = [face.name for face, group in zip(faces, found, strict=True) if not group]
    if missing:
        raise DataError(
            f"{table.name} has no group for {len(missing)} of {len(faces)} faces, such as {missing[0]}. "
            "Each face needs a row with its file and its group."
        )
    return found


def evaluate_groups(
    classifier: FaceClassifier,
    faces: Sequence[Face],
    labels: Sequence[str],
    table: Path,
    reading: ReadingName | None = None,
) -> GroupScores:
    """Score a reading of a model on each group that `table` names; see `read_groups` and `score_groups`."""
    groups = read_groups(table, faces)
    predictions = [found.among(labels) for found in predict_faces(classifier, faces, reading)]
    return score_groups(faces, predictions, groups)


def score_groups(faces: Sequence[Face], predictions: Sequence[Prediction], groups: Sequence[str]) -> GroupScores:
    """Compare predictions with the labels of the faces, group by group; raises DataError for fewer than two groups."""
    right = np.array([found.emotion == face.label for found, face in zip(predictions, faces, strict=True)])
    names = sorted(set(groups))
    if len(names) < 2:
        raise DataError(f"All faces are of the group {names[0]}. A comparison needs two groups.")
    parts = {name: right[[group == name for group in groups]] for name in names}
    random = np.random.default_rng(0)
    samples = np.stack([random.choice(part, (SAMPLES, len(part))).mean(axis=1) for part in parts.values()])
    lower, upper = np.quantile(np.ptp(samples, axis=0), [0.025, 0.975])
    scores = {name: Share.of(part.tolist()) for name, part in parts.items()}
    accuracies = [share.share for share in scores.values()]
    return GroupScores(scores, max(accuracies) - min(accuracies), float(lower), float(upper))
