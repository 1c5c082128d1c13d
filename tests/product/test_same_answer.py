"""The shipped model gives the same answers through fastai, Python, the command line and every form of HTTP request.

These tests use the shipped weights, because an untrained network answers nearly the same to every picture.
"""

from __future__ import annotations

import base64
import hashlib
import json
import urllib.request
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from fastai.learner import load_learner
from PIL import Image

from dexpression.__main__ import main
from dexpression.artifact.golden import golden_faces
from dexpression.artifact.manifest import Manifest, export_paths, load_onnx_model
from dexpression.engine import onnx_backend
from dexpression.faces import FaceDetector
from dexpression.labels import FIVE, READINGS, SEVEN, ReadingName
from dexpression.prediction import Predictor
from dexpression.settings import Settings
from tests.support.faces import encode
from tests.support.server import REQUEST_SECONDS, Server
from tests.support.web import MULTIPART, multipart

pytestmark = pytest.mark.slow

FOLDER = Settings.model_path
MANIFEST, ONNX_MODEL, _, LEARNER = export_paths(FOLDER)
# The learner's golden answers of each reading.
RECORDED = {reading: np.array(rows) for reading, rows in Manifest.read(MANIFEST).golden.items()}
PICTURES = [encode(Image.fromarray(pixels[0])) for pixels in golden_faces(48)]

each_reading = pytest.mark.parametrize("reading", READINGS)

# Allowed differences of a probability.
FLOAT32 = 1e-3  # the largest one, between two runs of one model
INT8 = 1e-2  # the mean one on a face, between the learner and the ONNX model
INT8_GOLDEN = 2e-2  # the mean one on the golden faces, which are not like the faces of the training


@pytest.fixture(scope="module")
def server(light_shipped: Path) -> Iterator[Server]:
    with Server(light_shipped) as server:
        yield server


@pytest.fixture(scope="module")
def int8_readings() -> dict[ReadingName, np.ndarray]:
    """The answers of the ONNX model to the golden faces in each reading, without a predictor around it."""
    content, manifest = load_onnx_model(ONNX_MODEL)
    assert manifest.readings == list(READINGS)
    return onnx_backend(content)(golden_faces(48))


@pytest.fixture(scope="module")
def int8_answers(int8_readings: dict[ReadingName, np.ndarray]) -> np.ndarray:
    """The answers in the reading that is the default."""
    return int8_readings["people"]


def to_row(answer: dict[str, object]) -> list[float]:
    """The probabilities of an answer, in the order of SEVEN."""
    assert tuple(answer["probabilities"]) == SEVEN
    return list(answer["probabilities"].values())


def predict_all(predictor: Predictor, reading: ReadingName | None = None) -> np.ndarray:
    return np.array([to_row(predictor.predict(picture, reading=reading).to_dict()) for picture in PICTURES])


def predict_by_command(capsys: pytest.CaptureFixture[str], folder: Path, *options: str) -> np.ndarray:
    for number, picture in enumerate(PICTURES):
        (folder / f"{number:02}.png").write_bytes(picture)
    main(["predict", str(folder), "--json", *options])
    return np.array([to_row(json.loads(line)) for line in capsys.readouterr().out.splitlines()])


def post(url: str, body: bytes, content_type: str) -> dict[str, object]:
    request = urllib.request.Request(url, body, {"Content-Type": content_type})
    with urllib.request.urlopen(request, timeout=REQUEST_SECONDS) as response:
        return json.load(response)


def to_json(picture: bytes, prefix: str = "", **parameters: str) -> bytes:
    return json.dumps({"image": prefix + base64.b64encode(picture).decode()} | parameters).encode()


FORMS = {
    "multipart": (multipart, MULTIPART),
    "raw body": (bytes, "image/png"),
    "base64": (to_json, "application/json"),
    "data URL": (lambda picture: to_json(picture, "data:image/png;base64,"), "application/json"),
}


def test_plain_fastai_gives_the_golden_answers():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fastai warns about pickle
        learner = load_learner(LEARNER)
    answers = [learner.predict(picture) for picture in PICTURES]
    assert np.array([probabilities.tolist() for *_, probabilities in answers]) == pytest.approx(
        RECORDED["people"], abs=FLOAT32
    )
    assert [label for label, *_ in answers] == [SEVEN[index] for index in RECORDED["people"].argmax(axis=1)]


@each_reading
def test_a_predictor_of_the_learner_gives_the_golden_answers(reading):
    assert predict_all(Predictor.load(LEARNER), reading) == pytest.approx(RECORDED[reading], abs=FLOAT32)


@each_reading
def test_the_command_line_with_the_learner_gives_the_golden_answers(capsys, tmp_path, reading):
    answers = predict_by_command(capsys, tmp_path, "--model", str(LEARNER), "--reading", reading)
    assert answers == pytest.approx(RECORDED[reading], abs=FLOAT32)


@each_reading
def test_the_onnx_model_answers_nearly_as_the_learner_does(int8_readings, reading):
    int8, recorded = int8_readings[reading], RECORDED[reading]
    assert np.abs(int8 - recorded).mean() < INT8_GOLDEN
    second, first = np.sort(recorded, axis=1)[:, -2:].T
    is_clear = first - second > 10 * INT8  # these pictures are not faces: two labels may be nearly as likely
    assert is_clear.any()
    assert (int8.argmax(axis=1) == recorded.argmax(axis=1))[is_clear].all()


def test_a_predictor_of_the_folder_answers_by_the_onnx_model(int8_answers):
    assert (
        np.abs(int8_answers - RECORDED["people"]).max() > 10 * FLOAT32
    )  # the learner's answers would be another result
    assert predict_all(Predictor.load(FOLDER)) == pytest.approx(int8_answers, abs=FLOAT32)


@pytest.mark.parametrize(
    "options", [(), ("--model", str(FOLDER)), ("--model", str(ONNX_MODEL))], ids=["no option", "folder", "file"]
)
def test_the_command_line_answers_by_the_onnx_model(capsys, tmp_path, int8_answers, options):
    assert predict_by_command(capsys, tmp_path, *options) == pytest.approx(int8_answers, abs=FLOAT32)


READING_PLACES = {
    "query": lambda url, picture, reading: post(f"{url}?reading={reading}", picture, "image/png"),
    "form": lambda url, picture, reading: post(url, multipart(picture, fields=[("reading", reading)]), MULTIPART),
    "json": lambda url, picture, reading: post(url, to_json(picture, reading=reading), "application/json"),
}


@each_reading
def test_http_command_line_and_python_give_the_numbers_of_the_onnx_model_for_each_reading(
    server, int8_readings, capsys, tmp_path, reading
):
    answers = {"Python": predict_all(Predictor.load(FOLDER), reading)}
    answers["command line"] = predict_by_command(capsys, tmp_path, "--reading", reading)
    for place, ask in READING_PLACES.items():
        answered = [ask(f"{server.url}/v1/predict", picture, reading) for picture in PICTURES]
        assert {answer["reading"] for answer in answered} == {reading}
        answers[place] = np.array([to_row(answer) for answer in answered])
    for source, rows in answers.items():
        assert rows == pytest.approx(int8_readings[reading], abs=FLOAT32), source


def test_the_readings_name_another_label_for_some_picture(server, int8_readings):
    people, labels = (int8_readings[reading].argmax(axis=1) for reading in READINGS)
    picture = PICTURES[int(np.flatnonzero(people != labels)[0])]
    results = [READING_PLACES["form"](f"{server.url}/v1/predict", picture, reading)["result"] for reading in READINGS]
    assert results[0] == post(f"{server.url}/v1/predict", multipart(picture), MULTIPART)["result"] != results[1]


def test_64_threads_get_the_answers_of_one_thread(int8_answers):
    predictor = Predictor.from_onnx_model(load_onnx_model(FOLDER), FaceDetector.load())
    with ThreadPoolExecutor(64) as threads:
        answers = list(threads.map(lambda picture: to_row(predictor.predict(picture).to_dict()), PICTURES * 8))
    assert np.array(answers) == pytest.approx(np.tile(int8_answers, (8, 1)), abs=FLOAT32)


@pytest.mark.parametrize("form", FORMS)
def test_64_clients_get_the_answers_of_the_onnx_model_by_every_form_of_request(server, int8_answers, form):
    encode_body, content_type = FORMS[form]
    url = f"{server.url}/v1/predict"
    with ThreadPoolExecutor(64) as threads:
        answers = threads.map(lambda picture: to_row(post(url, encode_body(picture), content_type)), PICTURES * 4)
        assert np.array(list(answers)) == pytest.approx(np.tile(int8_answers, (4, 1)), abs=FLOAT32)


def test_pictures_in_one_request_get_the_answers_of_single_ones(server, int8_answers):
    answers = post(f"{server.url}/v1/predict", multipart(*PICTURES), MULTIPART)["results"]
    assert np.array([to_row(answer) for answer in answers]) == pytest.approx(int8_answers, abs=FLOAT32)


def test_the_label_of_post_is_the_most_probable_of_five(server, int8_answers):
    five = [SEVEN.index(label) for label in FIVE]
    for picture, probabilities in zip(PICTURES, int8_answers, strict=True):
        expected = SEVEN[max(five, key=lambda index: probabilities[index])]
        assert post(server.url, multipart(picture), MULTIPART) == {"result": expected}


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "WEBP", "GIF"])
def test_a_picture_gets_the_same_answer_in_every_lossless_format(server, int8_answers, file_format):
    options = {"lossless": True} if file_format == "WEBP" else {}
    content = encode(Image.fromarray(golden_faces(48)[0, 0]), file_format, **options)
    answer = post(f"{server.url}/v1/predict", multipart(content), MULTIPART)
    assert to_row(answer) == pytest.approx(int8_answers[0], abs=FLOAT32)


def test_a_face_in_a_photo_gets_the_same_answer_from_http_python_and_the_learner(server, portrait):
    picture = encode(portrait)
    http = to_row(post(f"{server.url}/v1/predict", picture, "image/png"))
    python, learner = (to_row(Predictor.load(model).predict(picture).to_dict()) for model in (FOLDER, LEARNER))
    assert http == pytest.approx(python, abs=FLOAT32)
    assert np.abs(np.array(python) - learner).mean() < INT8


def test_http_and_python_name_the_model_by_the_digest_of_its_learner(server):
    digest = hashlib.sha256(export_paths(LEARNER).weights.read_bytes()).hexdigest()
    models = (FOLDER, ONNX_MODEL, LEARNER)
    assert {Predictor.load(model).public_facts()["sha256"] for model in models} == {digest}
    assert server.model_names() == (digest, digest)
