"""Probabilities from an exported learner: the learner's own, for any number of callers at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from conftest import draw_face, encode

from dexpression.artifact import load_exported
from dexpression.errors import DeXpressionError
from dexpression.labels import FIVE, SEVEN
from dexpression.picture import read_picture
from dexpression.prediction import Prediction, Predictor

FACES = [draw_face(label, seed, size) for label in SEVEN for seed, size in ((0, 48), (1, 100))]


@pytest.fixture(scope="module")
def learner(exported_learner: Path):
    return load_exported(exported_learner)[0]


@pytest.fixture(scope="module")
def predictor(exported_learner: Path) -> Predictor:
    return Predictor.load(exported_learner)


def probabilities(predictions: list[Prediction]) -> torch.Tensor:
    return torch.tensor([list(prediction.probabilities.values()) for prediction in predictions])


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "BMP", "GIF"])
def test_the_answer_is_that_of_the_learner(learner, predictor, tmp_path, file_format):
    for number, face in enumerate(FACES[:4]):
        path = tmp_path / f"{number}.{file_format.lower()}"
        path.write_bytes(encode(face, file_format))
        label, _, expected = learner.predict(path)
        [prediction] = predictor.predict([read_picture(path)])
        assert prediction.emotion == label
        assert torch.allclose(probabilities([prediction])[0], expected, atol=1e-4)


def test_a_batch_answers_as_its_pictures_do_alone(predictor):
    together = probabilities(predictor.predict(FACES))
    alone = torch.cat([probabilities(predictor.predict([face])) for face in FACES])
    assert torch.allclose(together, alone, atol=1e-5)


def test_many_threads_get_the_answers_that_one_gets(predictor):
    one_by_one = probabilities([predictor.predict([face])[0] for face in FACES] * 20)
    with ThreadPoolExecutor(32) as threads:
        at_once = list(threads.map(lambda face: predictor.predict([face])[0], FACES * 20))
    assert torch.allclose(probabilities(at_once), one_by_one, atol=1e-5)


def test_probabilities_are_named_in_order_and_sum_to_one(predictor):
    [prediction] = predictor.predict([FACES[0]])
    assert tuple(prediction.probabilities) == SEVEN
    assert sum(prediction.probabilities.values()) == pytest.approx(1)


def test_no_pictures_give_no_predictions(predictor):
    assert predictor.predict([]) == []


def test_fewer_labels_share_the_whole_probability():
    prediction = Prediction({"HAPPY": 0.2, "SAD": 0.5, "FEAR": 0.3}).among(["HAPPY", "FEAR"])
    assert prediction.probabilities == pytest.approx({"HAPPY": 0.4, "FEAR": 0.6})
    assert (prediction.emotion, prediction.confidence) == ("FEAR", pytest.approx(0.6))


def test_labels_that_the_model_lacks_are_named():
    with pytest.raises(DeXpressionError, match=r"knows no DISGUST, FEAR, NEUTRAL\. Choose among ANGRY, HAPPY"):
        Prediction({"ANGRY": 0.5, "HAPPY": 0.5}).among(FIVE)
