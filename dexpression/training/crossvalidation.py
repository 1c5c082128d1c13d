"""Cross-validation: every face is tested once, by a network that was not trained on it.

This is the protocol of the paper and of most small data sets.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, pstdev

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from torch import nn

from dexpression.errors import DataError
from dexpression.labels import LABELS_READING
from dexpression.network.loss import default_readouts
from dexpression.training.crops import FaceCropper
from dexpression.training.data import distinct_faces, read_labelled
from dexpression.training.digests import warn_of_overlap
from dexpression.training.evaluation import Evaluation, confusion_table, evaluate_learner
from dexpression.training.face_set import Face
from dexpression.training.fitting import Start, create_learner, fit, prepare_split
from dexpression.training.plan import describe_plan
from dexpression.training.recipe import Recipe

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CrossValidation:
    """The evaluations of all folds, in order."""

    folds: Sequence[Evaluation]

    def table(self) -> str:
        """Format one line per fold, the mean and standard deviation over the folds, and the confusion of all faces."""
        lines = [
            f"fold {number:2}  n {fold.n:6}  accuracy {fold.accuracy:.4f}  balanced {fold.balanced_accuracy:.4f}"
            for number, fold in enumerate(self.folds, start=1)
        ]
        accuracy = [fold.accuracy for fold in self.folds]
        balanced = [fold.balanced_accuracy for fold in self.folds]
        lines.append(
            f"{len(self.folds)} folds, n {sum(fold.n for fold in self.folds)}  "
            f"accuracy {mean(accuracy):.4f} +- {pstdev(accuracy):.4f}  "
            f"balanced {mean(balanced):.4f} +- {pstdev(balanced):.4f}"
        )
        confusion = np.sum([fold.confusion for fold in self.folds], axis=0)
        return "\n".join([*lines, "", *confusion_table(self.folds[0].labels, confusion.tolist())])


def crossvalidate(
    source: Path, recipe: Recipe, runs: Path, folds: int = 10, group_by: re.Pattern[str] | None = None
) -> CrossValidation:
    """Train one network per fold by the recipe, and test each on its own part of `source`; raises DataError.

    The splits of the source are ignored. `group_by` matches the part of a file's name, such as the person, whose
    images must never be both trained on and tested: its first group, or the whole match. A run that was stopped
    continues.
    """
    cropper = FaceCropper(recipe.image_size, recipe.detect, runs / "crops")
    faces = distinct_faces(read_labelled(source, recipe.labels, cropper).faces)
    results: list[Evaluation] = []
    start: Start | None = None
    for train, valid in _folds(faces, folds, group_by, recipe.seed):
        # All folds have the recipe and the start of the first one, even if another export replaces it meanwhile.
        dataloaders, recipe = prepare_split(train, valid, recipe, runs)
        learner = create_learner(dataloaders, recipe, start)
        start = learner.start
        if not results:
            logger.info("%s", describe_plan(learner, recipe, folds))
            if start:
                warn_of_overlap(start.manifest, faces, "start")
        fit(learner, recipe, runs)
        # The fitted ones saw the labels of the tested faces.
        learner.loss_func.readouts = nn.ModuleDict(default_readouts(learner.model.heads))
        *_, evaluation = evaluate_learner(learner)[LABELS_READING].values()  # of the most labels
        results.append(evaluation)
        logger.info("Fold %d of %d: accuracy %.4f", len(results), folds, evaluation.accuracy)
    return CrossValidation(results)


def _folds(
    faces: Sequence[Face], count: int, group_by: re.Pattern[str] | None, seed: int
) -> Iterator[tuple[list[Face], list[Face]]]:
    labels = [face.label for face in faces]
    groups = [_group(face, group_by) for face in faces] if group_by else None
    rarest = min(labels.count(label) for label in set(labels))
    if not 2 <= count <= rarest:
        raise DataError(f"{count} folds are not possible: the rarest label has {rarest} images. Choose 2 to {rarest}.")
    if groups and len(set(groups)) < count:
        raise DataError(
            f"{count} folds are not possible with {len(set(groups))} groups. Choose fewer, or group otherwise."
        )
    kind = StratifiedGroupKFold if groups else StratifiedKFold
    for train, valid in kind(count, shuffle=True, random_state=seed).split(faces, labels, groups):
        lacking = {labels[index] for index in valid} - {labels[index] for index in train}
        if lacking:
            raise DataError(
                f"All images of {', '.join(sorted(lacking))} are of one group, so that none would be left to train on. "
                "Add images of others, or group otherwise."
            )
        yield [faces[index] for index in train], [faces[index] for index in valid]


def _group(face: Face, pattern: re.Pattern[str]) -> str:
    found = pattern.search(Path(face.name).name)
    if found is None:
        raise DataError(f"The name of {face.name} does not match --group-by {pattern.pattern}.")
    return str(found[1] if pattern.groups else found[0])
