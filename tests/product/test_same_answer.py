"""Whichever road a picture takes to the model that we ship, its answer is the one recorded at the export.

The real weights are asked: those of an untrained network answer nearly the same to everything, and prove little.
"""

from __future__ import annotations

import base64
import json
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fastai.learner import load_learner
from PIL import Image

from dexpression.__main__ import main
from dexpression.artifact.golden import golden_faces
from dexpression.artifact.manifest import Manifest, export_paths, load_onnx_model
from dexpression.faces import FaceDetector
from dexpression.labels import SEVEN
from dexpression.prediction import Predictor
from dexpression.settings import Settings
from tests.support.faces import encode
from tests.support.server import Server
from tests.support.web import MULTIPART, multipart

LEARNER = Settings.model_path
ENGINE = LEARNER.with_suffix(".onnx")
RECORDED = np.array(Manifest.read(export_paths(LEARNER).manifest).golden)
PICTURES = [encode(Image.fromarray(pixels[0])) for pixels in golden_faces(48)]
FLOAT32, INT8 = 1e-3, 1e-2  # of a probability: as recorded; on average over the labels of a face, for the form in int8
INT8_OF_NOISE = 2e-2  # on average over the pictures: no training face is like them

Road = Callable[[list[bytes]], np.ndarray]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server(LEARNER)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def in_int8() -> np.ndarray:
    return by_predictor(Predictor.load(ENGINE), PICTURES)


def row(answer: dict[str, object]) -> list[float]:
    assert tuple(answer["probabilities"]) == SEVEN
    return list(answer["probabilities"].values())


def by_predictor(predictor: Predictor, pictures: list[bytes]) -> np.ndarray:
    return np.array([row(predictor.predict(picture).to_dict()) for picture in pictures])


def post(url: str, body: bytes, kind: str) -> dict[str, object]:
    with urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": kind}), timeout=60) as response:
        return json.load(response)


def as_json(picture: bytes, head: str = "") -> bytes:
    return json.dumps({"image": head + base64.b64encode(picture).decode()}).encode()


FORMS = {
    "a part": (lambda picture: multipart(picture), MULTIPART),
    "the body": (lambda picture: picture, "image/png"),
    "base64": (as_json, "application/json"),
    "a data URL": (lambda picture: as_json(picture, "data:image/png;base64,"), "application/json"),
}


def by_command(capsys: pytest.CaptureFixture[str], tmp_path, model) -> np.ndarray:
    for number, picture in enumerate(PICTURES):
        (tmp_path / f"{number:02}.png").write_bytes(picture)
    main(["predict", str(tmp_path), "--json", "--model", str(model)])
    return np.array([row(json.loads(line)) for line in capsys.readouterr().out.splitlines()])


def test_plain_fastai_gives_the_recorded_answers():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fastai's warning of pickle
        learner = load_learner(LEARNER)
    answers = [learner.predict(picture) for picture in PICTURES]
    assert np.array([probabilities.tolist() for *_, probabilities in answers]) == pytest.approx(RECORDED, abs=FLOAT32)
    assert [label for label, *_ in answers] == [SEVEN[index] for index in RECORDED.argmax(axis=1)]


def test_the_predictor_gives_the_recorded_answers():
    assert by_predictor(Predictor.load(LEARNER), PICTURES) == pytest.approx(RECORDED, abs=FLOAT32)


def test_the_command_line_gives_the_recorded_answers(capsys, tmp_path):
    assert by_command(capsys, tmp_path, LEARNER) == pytest.approx(RECORDED, abs=FLOAT32)


def test_the_form_in_int8_answers_as_the_learner_does(in_int8):
    assert np.abs(in_int8 - RECORDED).mean() < INT8_OF_NOISE
    second, first = np.sort(RECORDED, axis=1)[:, -2:].T
    sure = first - second > 10 * INT8  # these are no faces: two labels may be nearly as likely
    assert sure.any()
    assert (in_int8.argmax(axis=1) == RECORDED.argmax(axis=1))[sure].all()


def test_the_command_line_answers_in_int8_as_the_predictor_does(capsys, tmp_path, in_int8):
    assert by_command(capsys, tmp_path, ENGINE) == pytest.approx(in_int8, abs=FLOAT32)


def test_64_threads_get_the_answers_of_one(in_int8):
    predictor = Predictor.from_onnx_model(load_onnx_model(ENGINE), FaceDetector.load())
    with ThreadPoolExecutor(64) as threads:
        answers = list(threads.map(lambda picture: row(predictor.predict(picture).to_dict()), PICTURES * 8))
    assert np.array(answers) == pytest.approx(np.tile(in_int8, (8, 1)), abs=FLOAT32)


@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_request_is_answered_alike_by_workers_that_64_ask_at_once(server, in_int8, form):
    body, kind = FORMS[form]
    with ThreadPoolExecutor(64) as threads:
        answers = threads.map(lambda one: row(post(f"{server.url}/v1/predict", body(one), kind)), PICTURES * 4)
        assert np.array(list(answers)) == pytest.approx(np.tile(in_int8, (4, 1)), abs=FLOAT32)


def test_pictures_in_one_request_are_answered_as_those_alone(server, in_int8):
    answers = post(f"{server.url}/v1/predict", multipart(*PICTURES), MULTIPART)["results"]
    assert np.array([row(answer) for answer in answers]) == pytest.approx(in_int8, abs=FLOAT32)


def test_the_one_label_of_the_contract_is_the_likeliest_of_the_five(server, in_int8):
    five = [index for index, label in enumerate(SEVEN) if label not in ("SAD", "SURPRISE")]
    for picture, probabilities in zip(PICTURES, in_int8, strict=True):
        expected = SEVEN[max(five, key=lambda index: probabilities[index])]
        assert post(server.url, multipart(picture), MULTIPART) == {"result": expected}


@pytest.mark.parametrize("kind", ["PNG", "BMP", "WEBP", "GIF"])
def test_a_picture_is_read_alike_in_every_format_that_loses_nothing(server, in_int8, kind):
    content = encode(Image.fromarray(golden_faces(48)[0, 0]), kind, **({"lossless": True} if kind == "WEBP" else {}))
    answer = post(f"{server.url}/v1/predict", multipart(content), MULTIPART)
    assert row(answer) == pytest.approx(in_int8[0], abs=FLOAT32)


def test_a_face_in_a_photo_is_read_alike_by_every_road(server, portrait):
    picture = encode(portrait)
    by_http = row(post(f"{server.url}/v1/predict", picture, "image/png"))
    by_engine, by_learner = (row(Predictor.load(model).predict(picture).to_dict()) for model in (ENGINE, LEARNER))
    assert by_http == pytest.approx(by_engine, abs=FLOAT32)
    assert np.abs(np.array(by_engine) - by_learner).mean() < INT8
