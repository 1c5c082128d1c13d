"""Readings of pictures by an exported learner: its own probabilities, for any number of callers at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from PIL import Image

from dexpression import Predictor
from dexpression.artifact.export import load_exported
from dexpression.errors import UnreadableImage
from dexpression.labels import SEVEN
from dexpression.prediction import FaceClassifier
from dexpression.reading import Prediction
from dexpression.settings import Settings
from tests.support.faces import draw_face, encode

FACES = [draw_face(label, seed, size) for label in SEVEN for seed, size in ((0, 48), (1, 100))]


@pytest.fixture(scope="module")
def learner(exported_learner: Path):
    return load_exported(exported_learner)[0]


@pytest.fixture(scope="module")
def predictor(exported_learner: Path) -> Predictor:
    return Predictor.load(exported_learner)


@pytest.fixture(scope="module")
def classifier(predictor: Predictor) -> FaceClassifier:
    return predictor.classifier


def probabilities(predictions: list[Prediction]) -> torch.Tensor:
    return torch.tensor([list(prediction.probabilities.values()) for prediction in predictions])


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "BMP", "GIF"])
def test_the_answer_is_that_of_the_learner(learner, predictor, tmp_path, file_format):
    for number, face in enumerate(FACES[:4]):
        path = tmp_path / f"{number}.{file_format.lower()}"
        path.write_bytes(encode(face, file_format))
        label, _, expected = learner.predict(path)
        prediction = predictor.predict(path, "never").prediction
        assert prediction.emotion == label
        assert torch.allclose(probabilities([prediction])[0], expected, atol=1e-4)


def test_a_batch_answers_as_its_faces_do_alone(classifier):
    together = probabilities(classifier.predict(FACES))
    alone = torch.cat([probabilities(classifier.predict([face])) for face in FACES])
    assert torch.allclose(together, alone, atol=1e-5)


def test_many_threads_get_the_answers_that_one_gets(predictor, portrait):
    pictures = [*FACES, portrait.resize((200, 200))]
    one_by_one = [predictor.predict(picture).to_dict() for picture in pictures] * 10
    with ThreadPoolExecutor(32) as threads:
        assert list(threads.map(lambda picture: predictor.predict(picture).to_dict(), pictures * 10)) == one_by_one


def test_probabilities_are_named_in_order_and_sum_to_one(predictor):
    prediction = predictor.predict(FACES[0]).prediction
    assert tuple(prediction.probabilities) == SEVEN
    assert sum(prediction.probabilities.values()) == pytest.approx(1)


def test_no_faces_give_no_predictions(classifier):
    assert classifier.predict([]) == []


def test_every_face_of_a_picture_is_read_and_bytes_path_and_image_give_the_same(predictor, portrait, tmp_path):
    pair = Image.new("RGB", (1024, 512))
    for left in (0, 512):
        pair.paste(portrait, (left, 0))
    (tmp_path / "pair.png").write_bytes(encode(pair))
    readings = [predictor.predict(given) for given in (encode(pair), tmp_path / "pair.png", pair)]
    assert len(readings[0].faces) == 2
    assert readings[0] == readings[1] == readings[2]


def test_a_small_picture_is_one_face_unless_faces_are_asked_for(predictor):
    blank = Image.new("L", (64, 40))
    [whole] = predictor.predict(blank).faces
    assert (whole.box.left, whole.box.right, whole.detection_confidence) == (12, 52, None)
    assert predictor.predict(blank, "always").faces == predictor.predict(Image.new("L", (65, 40))).faces == []


def test_a_picture_that_cannot_be_read_is_refused(predictor):
    with pytest.raises(UnreadableImage):
        predictor.predict(b"no picture")


def test_a_picture_without_a_face_is_read_whole_where_that_is_wanted(predictor):
    blank = Image.new("L", (100, 100))
    assert predictor.predict(blank).prediction is None
    reading = predictor.predict(blank, whole=True)
    assert (reading.faces, reading.prediction) == ([], predictor.predict(blank, "never").prediction)


def test_the_onnx_form_answers_under_its_own_digest():
    by_form = {name: Predictor.load(Settings.model_path.with_suffix(name)) for name in (".pkl", ".onnx")}
    assert len({predictor.public_facts()["sha256"] for predictor in by_form.values()}) == 2
