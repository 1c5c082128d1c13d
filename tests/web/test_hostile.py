"""What strangers send on purpose: every format in odd modes, cut, spoilt, lying, far too large, and what is no picture.

Every answer is 200 or a problem of ours that is the caller's fault, and nothing stays behind.
"""

from __future__ import annotations

import gc
import io
import json
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings, strategies
from PIL import Image

from dexpression.web import create_app
from dexpression.web.service import Service
from tests.support.faces import encode
from tests.support.hostile import BOMBS, FACE, NO_PICTURES, PICTURES, spoilt
from tests.support.web import LIMITS, MULTIPART, PROBLEM_MEMBERS, StubPredictor, multipart


@pytest.fixture(scope="module")
def client() -> FlaskClient:
    return create_app(Service(StubPredictor()), LIMITS).test_client()


def ask(client: FlaskClient, content: bytes, path: str = "/") -> int:
    """The status, once the answer was seen to be a good one or one of our problems."""
    response = client.post(path, data=multipart(content), content_type=MULTIPART)
    if response.status_code == 200:
        assert response.get_json().keys() == {"result"}
    else:
        assert 400 <= response.status_code < 500, response.text
        assert response.get_json(force=True).keys() == PROBLEM_MEMBERS
        assert not any(word in response.text for word in ("Traceback", "/", "Error(", "PIL"))
    return response.status_code


@pytest.mark.parametrize("name", PICTURES)
def test_a_sound_picture_is_read_whatever_its_mode(client, name):
    assert ask(client, PICTURES[name]) == 200


@pytest.mark.parametrize("name", PICTURES)
def test_a_spoilt_picture_is_read_or_refused(client, name):
    statuses = Counter(ask(client, content) for content in spoilt(PICTURES[name], seed=len(name)))
    assert statuses.keys() <= {200, 400, 422}
    assert statuses[400] + statuses[422] > 0  # or nothing was spoilt


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_goes_off_in_no_memory_to_speak_of(client, name):
    tracemalloc.start()
    try:
        ask(client, BOMBS[name])
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 30_000_000


@pytest.mark.parametrize("name", NO_PICTURES)
def test_what_is_no_picture_of_ours_is_refused(client, name):
    assert ask(client, NO_PICTURES[name]) in (400, 422)


def test_what_stands_behind_a_picture_changes_nothing(client):
    for hidden in (b"<script>alert(1)</script>", b"PK\x03\x04", bytes(1000)):
        assert ask(client, encode(FACE, "JPEG") + hidden) == 200


def test_a_picture_under_a_wrong_type_is_read_by_its_bytes(client):
    for kind in ("image/png", "image/jpeg", "image/x-unknown"):
        assert client.post("/", data=encode(FACE, "GIF"), content_type=kind).status_code == 200


BYTES = strategies.binary(max_size=8)
VALUES = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.floats() | strategies.text(),
    lambda inner: strategies.lists(inner, max_size=3) | strategies.dictionaries(BYTES.map(repr), inner, max_size=3),
)
BODIES = strategies.one_of(
    strategies.binary(max_size=300),
    strategies.builds(
        lambda head, tail: head + multipart(encode(FACE))[len(head) : -1 - len(tail)] + tail, BYTES, BYTES
    ),
    VALUES.map(lambda value: json.dumps({"image": value}).encode()),
)
TYPES = strategies.sampled_from([MULTIPART, "multipart/form-data", "application/json", "image/png", "text/plain", ""])
NAMES = strategies.sampled_from(["labels", "detect", "min_confidence", "detail", "on_no_face"])
GIVEN = strategies.sampled_from(["five", "auto", "0.5", "nan", "1e999", "full"])
QUERIES = strategies.dictionaries(NAMES | strategies.text(max_size=9), GIVEN | strategies.text(max_size=9), max_size=3)


@settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(body=BODIES, kind=TYPES, query=QUERIES, path=strategies.sampled_from(["/", "/v1/predict"]))
def test_any_body_of_any_type_with_any_query_has_an_answer_of_ours(client, body, kind, query, path):
    response = client.post(path, data=body, content_type=kind, query_string=query)
    assert response.status_code < 500, response.text
    if response.status_code != 200:
        assert response.get_json(force=True).keys() == PROBLEM_MEMBERS


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files in /proc")
def test_nothing_stays_behind():
    predictor = StubPredictor()
    client = create_app(Service(predictor), LIMITS).test_client()

    def left() -> tuple[int, int]:
        predictor.seen.clear()
        gc.collect()
        objects = [thing for thing in gc.get_objects() if issubclass(type(thing), (Image.Image, io.BytesIO))]
        return len(list(Path("/proc/self/fd").iterdir())), len(objects)

    contents = [content for name in PICTURES for content in spoilt(PICTURES[name], 1)]
    for content in contents[:200]:
        ask(client, content)
    files, objects = left()
    for content in contents:
        ask(client, content)
    now = left()
    assert now[0] <= files
    assert now[1] <= objects + 5
