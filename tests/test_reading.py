"""What a reading says, and what it says as JSON."""

from __future__ import annotations

import pytest

from dexpression.errors import UnknownLabels
from dexpression.labels import FIVE
from dexpression.picture import Box
from dexpression.reading import FaceReading, Prediction, Reading

SURE = Prediction({"HAPPY": 0.7, "SAD": 0.2, "FEAR": 0.1})
UNSURE = Prediction({"HAPPY": 0.2, "SAD": 0.5, "FEAR": 0.3})
BOX = Box(1.4, 2.6, 10.4, 20.6)


def test_fewer_labels_share_the_whole_probability():
    prediction = UNSURE.among(["HAPPY", "FEAR"])
    assert prediction.probabilities == pytest.approx({"HAPPY": 0.4, "FEAR": 0.6})
    assert (prediction.emotion, prediction.confidence) == ("FEAR", pytest.approx(0.6))


def test_labels_that_the_model_lacks_are_named():
    with pytest.raises(UnknownLabels, match=r"knows no DISGUST, FEAR, NEUTRAL\. Choose among ANGRY, HAPPY"):
        Prediction({"ANGRY": 0.5, "HAPPY": 0.5}).among(FIVE)


def test_a_picture_answers_with_its_first_face():
    reading = Reading(30, 40, [FaceReading(BOX, 0.9, SURE), FaceReading(BOX, 0.8, UNSURE)])
    body = reading.to_dict(min_confidence=0.6)
    assert (body["result"], body["confidence"], body["image"]) == ("HAPPY", 0.7, {"width": 30, "height": 40})
    assert [face["result"] for face in body["faces"]] == ["HAPPY", "UNKNOWN"]
    assert body["faces"][0]["box"] == {"x": 1, "y": 3, "width": 9, "height": 18}


def test_no_face_is_an_answer():
    assert Reading(30, 40, []).to_dict()["result"] is None
    assert Reading(30, 40, []).emotion is None


def test_the_whole_picture_answers_where_it_has_no_face_and_was_asked():
    reading = Reading(30, 40, [], whole=UNSURE).among(["HAPPY", "FEAR"])
    assert (reading.emotion, reading.to_dict()["faces"]) == ("FEAR", [])
