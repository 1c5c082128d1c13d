"""Scores that can be checked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from dexpression.errors import DataError
from dexpression.labels import FIVE, SEVEN
from dexpression.prediction import FaceClassifier, load_classifier
from dexpression.reading import Prediction
from dexpression.training.evaluation import evaluate, score
from tests.support.faces import write_class_folders, write_votes


def prediction(**probabilities: float) -> Prediction:
    return Prediction(probabilities)


TRUTH = ["HAPPY", "HAPPY", "HAPPY", "SAD", "FEAR"]
GIVEN = [
    prediction(HAPPY=0.8, SAD=0.1, FEAR=0.1),
    prediction(HAPPY=0.6, SAD=0.4, FEAR=0.0),
    prediction(HAPPY=0.35, SAD=0.4, FEAR=0.25),
    prediction(HAPPY=0.1, SAD=0.7, FEAR=0.2),
    prediction(HAPPY=0.5, SAD=0.2, FEAR=0.3),
]


def test_scores_are_those_counted_by_hand():
    result = score(TRUTH, GIVEN, ["FEAR", "HAPPY", "SAD"])
    assert (result.n, result.accuracy) == (5, pytest.approx(3 / 5))
    assert result.recall == pytest.approx({"FEAR": 0, "HAPPY": 2 / 3, "SAD": 1})
    assert result.balanced_accuracy == pytest.approx(5 / 9)
    assert result.confusion == [[0, 1, 0], [0, 2, 1], [0, 0, 1]]


def test_faces_of_other_labels_are_left_out_and_answers_chosen_among_the_rest():
    result = score(TRUTH, GIVEN, ["FEAR", "HAPPY"])
    assert result.n == 4
    assert result.confusion == [[0, 1], [0, 3]]  # the third face is HAPPY once SAD is no choice


def test_a_label_that_does_not_occur_has_no_recall_and_does_not_count():
    result = score(["HAPPY"], [prediction(HAPPY=0.9, SAD=0.1)], ["HAPPY", "SAD"])
    assert (result.recall, result.balanced_accuracy) == ({"HAPPY": 1, "SAD": None}, 1)


@pytest.fixture(scope="module")
def classifier(exported_learner) -> FaceClassifier:
    return load_classifier(exported_learner)[0]


@pytest.mark.parametrize(("labels", "n", "vocabulary"), [(None, 70, SEVEN), ("seven", 70, SEVEN), ("five", 50, FIVE)])
def test_class_folders_are_scored_over_the_labels_asked_for(classifier, class_folders, labels, n, vocabulary):
    result = evaluate(classifier, class_folders, labels)
    assert (result.n, tuple(result.recall)) == (n, vocabulary)
    assert np.sum(result.confusion) == n


def test_every_image_counts_even_where_images_repeat(classifier, tmp_path):
    write_class_folders(tmp_path / "a", 2)
    write_class_folders(tmp_path / "a" / "happy" / "again", 2, labels=("HAPPY",))
    assert evaluate(classifier, tmp_path / "a").n == 16


def test_the_valid_split_is_scored_unless_another_is_named(classifier, split_folders):
    assert evaluate(classifier, split_folders).n == 14
    assert evaluate(classifier, split_folders, split="train").n == 42


def test_a_split_that_is_not_there_is_named(classifier, split_folders):
    with pytest.raises(DataError, match="has no test split; it has train, valid"):
        evaluate(classifier, split_folders, split="test")


def test_what_most_people_saw_can_be_the_truth(classifier, class_folders):
    write_votes(class_folders.parent / "fer2013new.csv", None, 70)  # all saw happiness
    result = evaluate(classifier, class_folders, "five", truth="votes")
    assert [sum(row) for row in result.confusion] == [0, 0, 0, 70, 0]


def test_votes_that_are_not_there_are_asked_for(classifier, class_folders):
    with pytest.raises(DataError, match=r"No FER\+ votes in faces or beside it"):
        evaluate(classifier, class_folders, truth="votes")
