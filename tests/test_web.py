"""The HTTP contract, with a predictor that answers as it is told."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence

import pytest
from conftest import MULTIPART, draw_face, encode, multipart
from flask.testing import FlaskClient
from PIL import Image
from werkzeug.test import TestResponse

from dexpression.prediction import Prediction
from dexpression.settings import Settings
from dexpression.web import create_app

PROBLEM_MEMBERS = {"type", "title", "status", "detail", "code", "error", "request_id"}


class StubPredictor:
    """Knows seven labels and prefers one that the contract does not have."""

    failure: Exception | None = None

    def __init__(self) -> None:
        self.seen: list[Image.Image] = []

    def predict(self, pictures: Sequence[Image.Image]) -> list[Prediction]:
        if self.failure:
            raise self.failure
        self.seen += pictures
        answer = {"ANGRY": 0.1, "DISGUST": 0.0, "FEAR": 0.1, "HAPPY": 0.3, "NEUTRAL": 0.1, "SAD": 0.4, "SURPRISE": 0.0}
        return [Prediction(answer) for _ in pictures]


@pytest.fixture
def predictor() -> StubPredictor:
    return StubPredictor()


@pytest.fixture
def client(predictor: StubPredictor) -> FlaskClient:
    return create_app(predictor, Settings(max_upload_bytes=1_000_000, max_pixels=1_000_000)).test_client()


def upload(client: FlaskClient, content: bytes, name: str = "face.png", **options: object) -> TestResponse:
    return client.post("/", data=multipart(content, name), content_type=MULTIPART, **options)


def assert_refused(response: TestResponse, status: int, code: str) -> None:
    """Every error has the one shape, says something, and hides how we are built."""
    assert (response.status_code, response.content_type) == (status, "application/problem+json")
    problem = response.get_json(force=True)
    assert problem.keys() == PROBLEM_MEMBERS
    assert (problem["status"], problem["code"], problem["error"]) == (status, code, problem["detail"])
    assert problem["request_id"] == response.headers["X-Request-ID"]
    assert len(problem["detail"]) > 20
    assert not any(secret in response.text for secret in ("Traceback", ".py", "/site-packages", "werkzeug"))


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
def test_a_picture_is_answered_with_exactly_these_bytes(client, file_format):
    response = upload(client, encode(draw_face("HAPPY", 0), file_format))
    assert (response.status_code, response.content_type) == (200, "application/json")
    assert response.data == b'{"result": "HAPPY"}'


def test_the_picture_reaches_the_predictor_upright(client, predictor):
    exif = Image.Exif()
    exif[0x0112] = 6
    upload(client, encode(Image.new("L", (60, 40)), "JPEG", exif=exif))
    assert predictor.seen[0].size == (40, 60)


@pytest.mark.parametrize("name", ["../../etc/passwd", "face.exe", "a;b=c.png", "x" * 5000, "Gesicht ü.png"])
def test_no_file_name_is_believed(client, name):
    assert upload(client, encode(draw_face("HAPPY", 0)), name).status_code == 200


def test_an_upload_never_touches_the_disk(client, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")  # whoever makes a temporary file now fails
    large = encode(Image.effect_noise((900, 900), 100), "BMP")
    assert len(large) > 500_000  # what werkzeug by itself puts on disk
    assert upload(client, large).status_code == 200


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 400, "empty_file"),
        (b"not a picture", 422, "undecodable_image"),
        (encode(draw_face("HAPPY", 0))[:60], 422, "undecodable_image"),
        (encode(Image.new("1", (1001, 1000))), 422, "too_many_pixels"),
        (bytes(1_000_001), 413, "payload_too_large"),
    ],
    ids=["empty", "text", "cut", "many pixels", "large"],
)
def test_what_is_no_picture_is_refused(client, content, status, code):
    assert_refused(upload(client, content), status, code)


@pytest.mark.parametrize(
    "request_options",
    [
        {},
        {"data": {"picture": (io.BytesIO(b"x"), "face.png")}},
        {"data": {"file": "only text"}},
        {"data": {"file": "x" * 600_000}},
        {"data": b"raw bytes", "content_type": "image/png"},
        {"data": b"cut", "content_type": "multipart/form-data; boundary=x"},
        {"data": b"{}", "content_type": "application/json"},
    ],
    ids=["nothing", "another part", "a text field", "a long text field", "raw", "broken multipart", "JSON"],
)
def test_a_request_without_the_part_is_told_how_to_send_it(client, request_options):
    response = client.post("/", **request_options)
    assert_refused(response, 400, "missing_file")
    assert "curl -F file=@" in response.get_json(force=True)["detail"]


def test_another_method_is_refused_with_those_allowed(client):
    response = client.put("/")
    assert_refused(response, 405, "method_not_allowed")
    assert "POST" in response.headers["Allow"]


def test_an_unknown_path_is_refused(client):
    assert_refused(client.get("/model/dexpression.pkl"), 404, "not_found")


def test_an_unforeseen_failure_is_answered_blandly_and_logged(client, predictor, caplog):
    predictor.failure = ZeroDivisionError("secret of /site-packages/x.py")
    response = upload(client, encode(draw_face("HAPPY", 0)))
    assert_refused(response, 500, "internal_server_error")
    assert "ZeroDivisionError" in caplog.text
    assert response.headers["X-Request-ID"] in caplog.text


def test_any_web_page_may_post(client):
    origin = {"Origin": "https://elsewhere.example"}
    response = upload(client, encode(draw_face("HAPPY", 0)), headers=origin)
    assert response.headers["Access-Control-Allow-Origin"] in ("*", origin["Origin"])
    assert client.post("/", headers=origin).headers["Access-Control-Allow-Origin"] in ("*", origin["Origin"])


def test_the_preflight_of_a_web_page_is_answered(client):
    asked = {
        "Origin": "https://elsewhere.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-anything",
    }
    response = client.options("/", headers=asked)
    assert response.status_code == 200
    assert "POST" in response.headers["Access-Control-Allow-Methods"]
    assert response.headers["Access-Control-Allow-Headers"] == "x-anything"


def test_a_request_id_is_taken_over_when_it_is_sane(client):
    assert client.get("/health/live", headers={"X-Request-ID": "job-7.b"}).headers["X-Request-ID"] == "job-7.b"
    replaced = client.get("/health/live", headers={"X-Request-ID": "a b<script>"}).headers["X-Request-ID"]
    assert len(replaced) == 32


def test_the_server_is_ready_only_when_it_can_really_predict(client, predictor):
    assert client.get("/health/ready").status_code == 200
    assert len(predictor.seen) == 1
    predictor.failure = RuntimeError("no weights")
    assert_refused(client.get("/health/ready"), 503, "not_ready")
    assert client.get("/health/live").get_json() == {"status": "live"}
