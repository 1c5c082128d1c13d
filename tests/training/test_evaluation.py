"""Scores agree with those that are counted by hand, for labels, votes, splits, learners and backends."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from fastai.learner import Learner

from dexpression.errors import DataError, UnknownLabels, UnknownReading
from dexpression.labels import FIVE, SEVEN
from dexpression.network.inference import torch_backend
from dexpression.prediction import FaceClassifier, load_classifier
from dexpression.reading import Prediction
from dexpression.training.crops import FaceCropper
from dexpression.training.evaluation import (
    Evaluation,
    calibration_error,
    confusion_table,
    count_confusions,
    evaluate,
    evaluate_backend,
    evaluate_learner,
    labelled_faces,
    reliability,
    score,
)
from dexpression.training.face_set import Face
from dexpression.training.fitting import create_learner, prepare_run
from dexpression.training.sources import read_faces
from tests.support.exports import change_manifest
from tests.support.faces import OWN_LABELS, draw_face, write_class_folders, write_votes
from tests.support.recipes import QUICK

TRUTH = ["HAPPY", "HAPPY", "HAPPY", "SAD", "FEAR"]
PREDICTIONS = [
    Prediction({"HAPPY": 0.8, "SAD": 0.1, "FEAR": 0.1}),
    Prediction({"HAPPY": 0.6, "SAD": 0.4, "FEAR": 0.0}),
    Prediction({"HAPPY": 0.35, "SAD": 0.4, "FEAR": 0.25}),
    Prediction({"HAPPY": 0.1, "SAD": 0.7, "FEAR": 0.2}),
    Prediction({"HAPPY": 0.5, "SAD": 0.2, "FEAR": 0.3}),
]

GREY = draw_face("HAPPY", 0)


@pytest.fixture(scope="module")
def classifier(exported_learner) -> FaceClassifier:
    return load_classifier(exported_learner)[0]


@pytest.fixture(scope="module")
def own_classifier(own_model) -> FaceClassifier:
    """A classifier with labels of its own."""
    return load_classifier(own_model.with_suffix(".onnx"))[0]


def evaluate_source(classifier, source, labels=None, *, reading=None, **options) -> Evaluation:
    """Score the faces of a source, as the command `evaluate` does."""
    return evaluate(classifier, *labelled_faces(classifier, source, labels, **options), reading)


def untrained(source) -> Learner:
    return create_learner(*prepare_run(source, QUICK, source.parent / "runs"))


def test_scores_are_those_counted_by_hand():
    result = score(TRUTH, PREDICTIONS, ["FEAR", "HAPPY", "SAD"])
    assert (result.n, result.accuracy) == (5, pytest.approx(3 / 5))
    assert result.recall == pytest.approx({"FEAR": 0, "HAPPY": 2 / 3, "SAD": 1})
    assert result.balanced_accuracy == pytest.approx(5 / 9)
    assert result.confusion == [[0, 1, 0], [0, 2, 1], [0, 0, 1]]


def test_faces_of_other_labels_are_left_out_and_the_rest_predicted_among_the_scored_labels():
    result = score(TRUTH, PREDICTIONS, ["FEAR", "HAPPY"])
    assert result.n == 4
    assert result.confusion == [[0, 1], [0, 3]]  # the third face is HAPPY among these two labels


def test_a_label_that_does_not_occur_has_no_recall_and_does_not_count():
    result = score(["HAPPY"], [Prediction({"HAPPY": 0.9, "SAD": 0.1})], ["HAPPY", "SAD"])
    assert (result.recall, result.balanced_accuracy) == ({"HAPPY": 1, "SAD": None}, 1)


def test_no_face_to_score_is_refused():
    for truth in ([], ["ANGRY"]):
        with pytest.raises(DataError, match="No face to score has one of the labels HAPPY, SAD"):
            score(truth, [Prediction({"HAPPY": 0.9, "SAD": 0.1})] * len(truth), ["HAPPY", "SAD"])


def test_a_prediction_that_excludes_all_scored_labels_is_scored():
    result = score(["HAPPY"], [Prediction({"FEAR": 1.0, "HAPPY": 0.0, "SAD": 0.0})], ["HAPPY", "SAD"])
    assert (result.n, result.reliability) == (1, [(1, 0.5, 1.0)])


def test_calibration_error_is_the_gap_between_confidence_and_accuracy():
    confidence = np.array([0.9, 0.9, 0.9, 0.9, 0.5, 0.5])
    right = np.array([True, True, True, False, True, False])
    bins = reliability(confidence, right)
    assert bins == [(2, 0.5, 0.5), (4, pytest.approx(0.9), 0.75)]
    assert calibration_error(bins) == pytest.approx(4 / 6 * 0.15)


def test_a_confidence_of_1_falls_into_the_last_bin():
    assert reliability(np.array([1.0, 0.95]), np.array([True, False])) == [(2, 0.975, 0.5)]


@pytest.mark.parametrize(("labels", "n", "vocabulary"), [(None, 70, SEVEN), ("seven", 70, SEVEN), ("five", 50, FIVE)])
def test_class_folders_are_scored_over_the_chosen_labels(classifier, class_folders, labels, n, vocabulary):
    result = evaluate_source(classifier, class_folders, labels)
    assert (result.n, tuple(result.recall)) == (n, vocabulary)
    assert np.sum(result.confusion) == n


def test_folders_are_matched_with_the_labels_of_the_model_and_the_log_says_which_are_left_out(
    own_classifier, tmp_path, caplog
):
    caplog.set_level("INFO")
    names = ("Bored", "very ATTENTIVE", "happy", "anything else")
    folder = write_class_folders(tmp_path / "faces", 2, SEVEN[:4], names=names)
    faces, labels = labelled_faces(own_classifier, folder)
    assert ({face.label for face in faces}, tuple(labels)) == (set(OWN_LABELS), OWN_LABELS)
    assert "2 left out (ANYTHING ELSE is not a chosen label): anything else/00006.png" in caplog.text
    assert "2 left out (HAPPY is not a chosen label): happy/00004.png" in caplog.text


def test_synonyms_are_the_labels_of_the_model_and_not_ours(own_model, tmp_path):
    """A model that was trained with `--labels own` on happiness/ and sadness/."""
    model = Path(shutil.copytree(own_model.parent, tmp_path / "model")) / own_model.name
    change_manifest(model, labels=["HAPPINESS", "SADNESS"])
    folder = write_class_folders(tmp_path / "faces", 2, ("HAPPY", "SAD"), names=("happy", "Sadness"))
    faces, _ = labelled_faces(load_classifier(model.with_suffix(".onnx"))[0], folder)
    assert sorted(face.label for face in faces) == ["HAPPINESS", "HAPPINESS", "SADNESS", "SADNESS"]


def test_faces_of_no_label_of_the_model_are_refused_with_the_names_that_were_found(own_classifier, class_folders):
    with pytest.raises(
        DataError, match=r"No faces in faces\. 10 left out \(ANGRY is not a chosen label\): angry/00000"
    ):
        evaluate_source(own_classifier, class_folders)


def test_a_model_with_labels_of_its_own_is_scored_on_these(own_classifier):
    faces = [Face(f"{label}.png", label, None, GREY) for label in OWN_LABELS]
    result = evaluate(own_classifier, faces, own_classifier.labels)
    assert (result.n, tuple(result.recall)) == (2, OWN_LABELS)


def test_photos_are_cropped_to_their_faces_as_a_prediction_does_it(shipped, portrait, tmp_path):
    (tmp_path / "happy").mkdir()
    portrait.save(tmp_path / "happy" / "photo.png")
    [face] = shipped.predict(portrait).faces
    for detect, expected in (("auto", face.prediction), ("never", shipped.predict(portrait, "never").prediction)):
        faces, _ = labelled_faces(shipped.classifier, tmp_path, detect=detect)
        [predicted] = shipped.classifier.predict([faces[0].image])
        assert predicted.probabilities == pytest.approx(expected.probabilities, abs=1e-6)


@pytest.mark.parametrize("labels", ["five", "seven", "eight"])
def test_a_label_set_that_the_model_lacks_is_refused_before_a_face_is_read(own_classifier, tmp_path, labels):
    message = rf"does not know all labels of the set {labels}: it has BORED, VERY ATTENTIVE\. Leave out --labels"
    with pytest.raises(UnknownLabels, match=message):
        evaluate_source(own_classifier, tmp_path / "nowhere", labels)


def test_the_table_shows_long_labels_whole():
    labels = ["ATTENTIVE", "ATTENTIVE AT FIRST"]
    rows = score(labels, [Prediction(dict(zip(labels, row, strict=True))) for row in ([0.9, 0.1], [0.2, 0.8])], labels)
    *_, head, first, second = rows.table().splitlines()
    assert head.endswith("predicted ATTENTIVE ATTENTIVE AT FIRST")
    assert len(head) == len(first) == len(second)


def test_the_confusion_matrix_has_the_recall_of_each_label_that_occurs():
    rows = confusion_table(["HAPPY", "SAD"], [[3, 1], [0, 0]])
    assert [row.split() for row in rows] == [
        ["recall", "predicted", "HAPPY", "SAD"],
        ["HAPPY", "0.750", "3", "1"],
        ["SAD", "-", "0", "0"],
    ]


def test_repeated_images_all_count(classifier, tmp_path):
    write_class_folders(tmp_path / "a", 2)
    write_class_folders(tmp_path / "a" / "happy" / "again", 2, labels=("HAPPY",))
    assert evaluate_source(classifier, tmp_path / "a").n == 16


def test_the_valid_split_is_scored_unless_another_is_named(classifier, split_folders):
    assert evaluate_source(classifier, split_folders).n == 14
    assert evaluate_source(classifier, split_folders, split="train").n == 42


def test_a_missing_split_is_refused_with_those_that_exist(classifier, split_folders):
    with pytest.raises(DataError, match="has no test split; it has train, valid"):
        evaluate_source(classifier, split_folders, split="test")


def test_the_ferplus_majority_vote_can_be_the_truth(classifier, class_folders):
    write_votes(class_folders.parent / "fer2013new.csv", None, 70)  # every majority vote is for HAPPY
    result = evaluate_source(classifier, class_folders, "five", truth="votes")
    assert [sum(row) for row in result.confusion] == [0, 0, 0, 70, 0]


def test_the_reading_that_is_named_is_scored(two_readings, class_folders):
    classifier = load_classifier(two_readings)[0]
    faces = read_faces(class_folders, FaceCropper(48)).faces
    confusions = {}
    for reading in ("people", "labels"):
        predicted = [answer.emotion for answer in classifier.predict([face.image for face in faces], reading)]
        expected = count_confusions([face.label for face in faces], predicted, SEVEN).tolist()
        confusions[reading] = evaluate_source(classifier, class_folders, reading=reading).confusion
        assert confusions[reading] == expected
    assert confusions["people"] != confusions["labels"]
    assert evaluate_source(classifier, class_folders).confusion == confusions["people"]  # the default


def test_a_model_without_a_head_for_votes_refuses_the_reading_of_people(classifier, class_folders):
    with pytest.raises(UnknownReading, match=r"has no reading 'people'.* FER\+ votes\. It has: labels"):
        evaluate_source(classifier, class_folders, reading="people")
    assert evaluate_source(classifier, class_folders) == evaluate_source(classifier, class_folders, reading="labels")


def test_missing_votes_are_refused_with_the_place_to_put_them(classifier, class_folders):
    with pytest.raises(DataError, match=r"No FER\+ votes in faces or beside it. Put ferplus.csv or fer2013new.csv"):
        evaluate_source(classifier, class_folders, truth="votes")


def test_a_learner_is_scored_by_labels_and_by_votes_in_each_label_set_that_it_knows(class_folders):
    write_votes(class_folders / "fer2013new.csv", None, 70)  # every majority vote is for HAPPY
    results = evaluate_learner(untrained(class_folders))
    counts = {reading: {name: one.n for name, one in sets.items()} for reading, sets in results.items()}
    assert counts == {"people": {"five": 7, "seven": 7}, "labels": {"five": 5, "seven": 7}}
    rows = {reading: [sum(row) for row in sets["seven"].confusion] for reading, sets in results.items()}
    assert rows == {"people": [0, 0, 0, 7, 0, 0, 0], "labels": [1] * 7}


def test_a_learner_without_votes_is_scored_by_labels_alone(class_folders):
    assert list(evaluate_learner(untrained(class_folders))) == ["labels"]


def test_a_learner_and_its_backend_get_the_same_scores(class_folders):
    write_votes(class_folders / "fer2013new.csv", None, 70)
    learner = untrained(class_folders)
    by_learner, by_backend = evaluate_learner(learner), evaluate_backend(torch_backend(learner), learner)
    assert list(by_learner) == list(by_backend) == ["people", "labels"]
    for reading, sets in by_learner.items():
        for name, one in sets.items():
            assert one.confusion == by_backend[reading][name].confusion
            assert one.ece == pytest.approx(by_backend[reading][name].ece, abs=1e-4)
