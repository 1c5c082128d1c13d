"""Predictions and readings in Python, and as JSON."""

from __future__ import annotations

import pytest

from dexpression.errors import UnknownLabels
from dexpression.labels import FIVE
from dexpression.picture import Box
from dexpression.reading import FaceReading, Prediction, Reading

SURE = Prediction({"HAPPY": 0.7, "SAD": 0.2, "FEAR": 0.1})
UNSURE = Prediction({"HAPPY": 0.2, "SAD": 0.5, "FEAR": 0.3})
BOX = Box(1.4, 2.6, 10.4, 20.6)


def test_the_probabilities_of_chosen_labels_sum_to_one():
    prediction = UNSURE.among(["HAPPY", "FEAR"])
    assert prediction.probabilities == pytest.approx({"HAPPY": 0.4, "FEAR": 0.6})
    assert (prediction.emotion, prediction.confidence) == ("FEAR", pytest.approx(0.6))


def test_labels_that_all_have_no_probability_get_the_same_share():
    assert Prediction({"HAPPY": 1.0, "SAD": 0.0, "FEAR": 0.0}).among(["SAD", "FEAR"]).probabilities == {
        "SAD": 0.5,
        "FEAR": 0.5,
    }


def test_an_error_names_the_labels_that_the_model_lacks():
    with pytest.raises(UnknownLabels, match=r"does not know DISGUST, FEAR, NEUTRAL\. Choose from ANGRY, HAPPY"):
        Prediction({"ANGRY": 0.5, "HAPPY": 0.5}).among(FIVE)


def test_the_result_of_a_reading_is_that_of_its_first_face():
    reading = Reading(30, 40, [FaceReading(BOX, 0.9, SURE), FaceReading(BOX, 0.8, UNSURE)], "labels")
    body = reading.to_dict(min_confidence=0.6)
    assert (body["result"], body["confidence"], body["image"]) == ("HAPPY", 0.7, {"width": 30, "height": 40})
    assert body["reading"] == "labels"
    assert [face["result"] for face in body["faces"]] == ["HAPPY", "UNKNOWN"]
    assert body["faces"][0]["box"] == {"x": 1, "y": 3, "width": 9, "height": 18}


EXPLAINED = Prediction(UNSURE.probabilities, {"HAPPY": [[1.0]], "SAD": [[2.00006]], "FEAR": [[0.0]]})


def test_evidence_in_json_has_the_square_that_its_maps_cover_and_among_labels_those_maps_alone():
    reading = Reading(30, 40, [FaceReading(BOX, 0.9, EXPLAINED, Box(0, 3.2, 12, 15.2))], "people")
    box = {"x": 0, "y": 3, "width": 12, "height": 12}
    [face] = reading.among(["HAPPY", "SAD"]).to_dict()["faces"]
    assert face["evidence"] == {"box": box, "maps": {"HAPPY": [[1.0]], "SAD": [[2.0001]]}}
    [face] = reading.with_evidence_of_answers().to_dict()["faces"]
    assert face["evidence"]["maps"] == {"SAD": [[2.0001]]}


def test_a_prediction_that_was_not_explained_has_no_evidence_in_json():
    assert "evidence" not in FaceReading(BOX, 0.9, UNSURE, BOX).to_dict()


def test_a_reading_without_a_face_has_no_result():
    assert Reading(30, 40, [], "people").to_dict()["result"] is None
    assert Reading(30, 40, [], "people").emotion is None


def test_the_result_without_a_face_is_that_of_the_whole_picture_if_there_is_one():
    reading = Reading(30, 40, [], "people", whole=UNSURE).among(["HAPPY", "FEAR"])
    assert (reading.emotion, reading.name, reading.to_dict()["faces"]) == ("FEAR", "people", [])
