"""Compare a trained model with the one that its export would replace, on the same faces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path

from dexpression.errors import DeXpressionError
from dexpression.prediction import FaceClassifier, load_classifier
from dexpression.training.digests import trained_on
from dexpression.training.evaluation import predict_faces
from dexpression.training.face_set import Face

CHANCE = 0.05  # probability up to which a difference is not taken for chance


@dataclass(frozen=True)
class Comparison:
    """The accuracy, 0..1, of a former and a new model on the same `n` faces, and on how many only one is right."""

    n: int
    former: float
    new: float
    only_former: int
    only_new: int

    @property
    def is_worse(self) -> bool:
        """Whether the new model is worse, by more than chance explains: a sign test of the faces that differ."""
        differing = self.only_former + self.only_new
        as_few = sum(comb(differing, count) for count in range(self.only_new + 1)) / 2**differing
        return self.only_former > self.only_new and as_few <= CHANCE

    def report(self) -> str:
        """Say in one line how both models did."""
        return (
            f"On the same {self.n} faces of valid, the model that was served before has an accuracy of "
            f"{self.former:.3f}, and the new one of {self.new:.3f}."
        )


def compare_with_former(output: Path, new: FaceClassifier, faces: Sequence[Face]) -> Comparison | None:
    """Compare a model with the export in `output` on those of the faces that the export was not trained on.

    Each answers with its first reading, and the former one among the labels of the new one. None if there is no former
    export, if it does not know a label, or if no face is left.
    """
    try:
        former, manifest = load_classifier(output)
    except DeXpressionError:
        return None
    if not set(new.labels) <= set(former.labels):
        return None
    unseen = [face for face, known in zip(faces, trained_on(manifest, faces), strict=True) if not known]
    labelled = [face.with_truth(new.readings[0]) for face in unseen]
    compared = [face for face in labelled if face.label in new.labels]
    if not compared:
        return None
    right = [
        [
            found.among(new.labels).emotion == face.label
            for found, face in zip(predict_faces(one, compared), compared, strict=True)
        ]
        for one in (former, new)
    ]
    pairs = list(zip(*right, strict=True))
    return Comparison(
        n=len(pairs),
        former=sum(right[0]) / len(pairs),
        new=sum(right[1]) / len(pairs),
        only_former=pairs.count((True, False)),
        only_new=pairs.count((False, True)),
    )
