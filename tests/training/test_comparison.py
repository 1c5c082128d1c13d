"""A new model is compared with the export that it would replace, on faces that neither was trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dexpression.labels import SEVEN
from dexpression.prediction import FaceClassifier, Predictor, load_classifier
from dexpression.training.comparison import Comparison, compare_with_former
from dexpression.training.digests import encode_digests
from dexpression.training.evaluation import predict_faces
from dexpression.training.face_set import Face
from tests.support.exports import change_manifest
from tests.support.faces import draw_face

FACES = [Face(f"{label}{seed}.png", label, "valid", draw_face(label, seed)) for label in SEVEN for seed in range(4)]


def guessing(labels: tuple[str, ...], answer: str) -> FaceClassifier:
    """A classifier that always gives the same answer."""
    row = np.array([float(label == answer) for label in labels])
    return FaceClassifier(lambda faces: {"labels": np.tile(row, (len(faces), 1))}, labels, 48, ["labels"])


@pytest.mark.parametrize(
    ("only_former", "only_new", "worse"),
    [(0, 0, False), (4, 0, False), (5, 0, True), (10, 9, False), (12, 2, True), (2, 12, False), (60, 40, True)],
)
def test_a_model_is_worse_if_chance_does_not_explain_it(only_former, only_new, worse):
    assert Comparison(200, 0.9, 0.8, only_former, only_new).is_worse is worse


def test_a_comparison_of_very_many_faces_is_computed():
    assert Comparison(10**6, 0.9, 0.8, 3_000, 2_000).is_worse
    assert not Comparison(10**6, 0.8, 0.8, 2_500, 2_500).is_worse


def test_both_models_are_scored_on_the_same_faces(model):
    former = load_classifier(model.with_suffix(".onnx"))[0]
    right = [found.emotion == face.label for found, face in zip(predict_faces(former, FACES), FACES, strict=True)]
    happy = [face.label == "HAPPY" for face in FACES]
    pairs = list(zip(right, happy, strict=True))
    found = compare_with_former(model.parent, guessing(SEVEN, "HAPPY"), FACES)
    assert found == Comparison(
        n=len(FACES),
        former=pytest.approx(np.mean(right)),
        new=pytest.approx(1 / 7),
        only_former=pairs.count((True, False)),
        only_new=pairs.count((False, True)),
    )
    assert found.report() == (
        f"On the same 28 faces of valid, the model that was served before has an accuracy of {np.mean(right):.3f}, "
        "and the new one of 0.143."
    )


def test_faces_that_the_former_model_was_trained_on_do_not_count(model):
    change_manifest(model, data={"digests": encode_digests(FACES[:21])})
    assert compare_with_former(model.parent, guessing(SEVEN, "HAPPY"), FACES).n == 7
    change_manifest(model, data={"digests": encode_digests(FACES)})
    assert compare_with_former(model.parent, guessing(SEVEN, "HAPPY"), FACES) is None


def test_a_former_model_of_more_labels_answers_among_those_of_the_new_one(model):
    labels = ("HAPPY", "SAD")
    faces = [face for face in FACES if face.label in labels]
    former = load_classifier(model.with_suffix(".onnx"))[0]
    right = [
        answer.among(labels).emotion == face.label
        for answer, face in zip(predict_faces(former, faces), faces, strict=True)
    ]
    found = compare_with_former(model.parent, guessing(labels, "SAD"), faces)
    assert (found.former, found.new) == (pytest.approx(np.mean(right)), 0.5)


def test_each_model_answers_by_its_own_first_reading_and_the_truth_is_that_of_the_new_one(two_readings):
    folder = two_readings.parent
    voted = [Face(face.name, face.label, None, face.image, votes={"sadness": 8, "happiness": 2}) for face in FACES]
    classifier = load_classifier(folder)[0]
    assert compare_with_former(folder, classifier, voted).new == np.mean(
        [found.emotion == "SAD" for found in predict_faces(classifier, voted, "people")]
    )
    assert compare_with_former(folder, guessing(SEVEN, "SAD"), voted).new == pytest.approx(1 / 7)


@pytest.mark.parametrize("labels", [("BORED", "HAPPY"), ("A", "B")])
def test_without_a_former_model_that_knows_the_labels_there_is_no_comparison(model, labels):
    faces = [Face("0.png", labels[1], "valid", draw_face("HAPPY", 0))]
    assert compare_with_former(model.parent, guessing(labels, labels[1]), faces) is None


@pytest.mark.parametrize("damage", ["missing", "manifest", "model"])
def test_without_a_former_export_that_loads_there_is_no_comparison(model, damage):
    if damage == "missing":
        output = Path(model.parent, "nowhere")
    else:
        output = model.parent
        model.with_suffix(".json" if damage == "manifest" else ".onnx").write_bytes(b"{")
    assert compare_with_former(output, guessing(SEVEN, "HAPPY"), FACES) is None


def test_a_former_export_of_another_size_is_compared(shipped: Predictor, tmp_path):
    """The new network takes 224x224 pixels, the former one 48x48."""
    large = [Face(face.name, face.label, "valid", draw_face(face.label, 0, 224)) for face in FACES]
    new = guessing(SEVEN, "HAPPY")
    new.image_size = 224
    from dexpression.settings import Settings

    assert compare_with_former(Path(Settings.model_path), new, large).n == len(large)
