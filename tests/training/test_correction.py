"""From pictures to a better model: faces are sorted, a person moves the wrong ones, and a network learns from them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dexpression.__main__ import main
from dexpression.artifact.manifest import Manifest, export_paths
from dexpression.labels import SEVEN
from dexpression.prediction import Predictor
from tests.support.faces import draw_face, write_class_folders

pytestmark = pytest.mark.slow


def move_to_true_labels(folder: Path) -> int:
    """Move the faces that lie in a wrong folder, as a person does; returns how many."""
    wrong = [path for path in sorted(folder.rglob("*.png")) if f"_{path.parent.name}_" not in path.name]
    for path in wrong:
        label = next(label for label in SEVEN if f"_{label.lower()}_" in path.name)
        (folder / label.lower()).mkdir(exist_ok=True)
        path.rename(folder / label.lower() / path.name)
    return len(wrong)


def test_sorted_and_corrected_faces_train_a_model_that_is_served(exported_learner, tmp_path, capsys):
    pictures, faces, model = write_class_folders(tmp_path / "pictures", 10), tmp_path / "sorted", tmp_path / "model"
    sort = ["predict", str(pictures), "--model", str(exported_learner.parent), "--sort-into", str(faces)]
    main(sort)
    assert move_to_true_labels(faces) > 10  # of a model with random weights
    main(sort)
    assert move_to_true_labels(faces) == 0
    options = ["--detect", "never", "--epochs", "1", "--output", str(model), "--runs", str(tmp_path / "runs")]
    main(["train", str(faces), *options])
    manifest = Manifest.read(export_paths(model).manifest)
    counts = {split: sum(labels.values()) for split, labels in manifest.data["images"].items()}
    assert counts == {"train": 63, "valid": 7}
    assert Predictor.load(model).predict(draw_face("HAPPY", 0)).emotion in SEVEN
