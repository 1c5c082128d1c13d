"""Whether evidence tells the truth: how much of its probability an answer loses without the strongest evidence.

`python -m benchmarks.evidence FOLDER`, with the folder of the training data. On faces of valid, the fifth of the places
whose evidence for the answer is strongest is covered with grey; then as many random ones, and those that are strongest
in another face, because the middle of any face counts more than its edges.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from dexpression.prediction import FaceClassifier, load_classifier
from dexpression.training.crops import FaceCropper
from dexpression.training.sources import read_faces

FACES = 500
SHARE = 0.2  # of the places
GREY = 128
Z = 1.96  # standard errors to each side of a 95 % interval


def cover(face: Image.Image, places: np.ndarray, side: int) -> Image.Image:
    """Cover places of a face, numbered by rows in a grid of `side` x `side`, with grey."""
    covered, step = face.copy(), face.width / side
    for row, column in zip(*np.divmod(places, side), strict=True):
        box = (column * step, row * step, (column + 1) * step, (row + 1) * step)
        covered.paste(GREY, tuple(round(edge) for edge in box))
    return covered


def measure_drops(classifier: FaceClassifier, faces: list[Image.Image]) -> dict[str, np.ndarray]:
    """The probability of the answer that each face loses, by which places of it are covered."""
    rng = np.random.default_rng(0)
    predictions = classifier.predict(faces, explain=True)
    maps = np.array([(prediction.evidence or {})[prediction.emotion] for prediction in predictions])
    side = maps.shape[1]
    count = round(SHARE * side**2)
    order = maps.reshape(len(faces), -1).argsort(axis=1)
    chosen = {
        "strongest": order[:, -count:],
        "random": np.array([rng.permutation(side**2)[:count] for _ in faces]),
        "another's": np.roll(order[:, -count:], 1, axis=0),
    }
    drops = {}
    for name, places in chosen.items():
        covered = classifier.predict([cover(*pair, side) for pair in zip(faces, places, strict=True)])
        pairs = zip(predictions, covered, strict=True)
        drops[name] = np.array([before.confidence - after.probabilities[before.emotion] for before, after in pairs])
    return drops


def main() -> None:
    """Print the mean drop for each choice of places, with its 95 % interval."""
    classifier, manifest = load_classifier("model")
    found = read_faces(Path(sys.argv[1]), FaceCropper(manifest.image_size)).of_split("valid").faces
    faces = [face.image for face in found[:: max(1, len(found) // FACES)][:FACES]]
    print(f"n = {len(faces)}; a fifth of the places is covered")
    for name, drops in measure_drops(classifier, faces).items():
        margin = Z * drops.std(ddof=1) / np.sqrt(len(drops))
        mean = drops.mean()
        print(f"{name:9}  mean drop of the probability {mean:.3f} ({mean - margin:.3f} to {mean + margin:.3f})")


if __name__ == "__main__":
    main()
