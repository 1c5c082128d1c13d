"""Hostile uploads: rare modes, damaged pictures, decompression bombs, other files, and generated bodies.

Every answer is 200 or a problem document with a status below 500, and no file or picture stays open.
"""

from __future__ import annotations

import base64
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
from tests.support.hostile import BOMBS, FACE, NOT_PICTURES, PICTURES, TOO_COMPLEX, cut_png, damage
from tests.support.web import LIMITS, MULTIPART, PROBLEM_MEMBERS, StubPredictor, assert_refused, multipart


@pytest.fixture(scope="module")
def client() -> FlaskClient:
    return create_app(Service(StubPredictor()), LIMITS).test_client()


def upload(client: FlaskClient, content: bytes, path: str = "/") -> int:
    """Send a picture, check that the answer is a result or a problem document, and return its status."""
    response = client.post(path, data=multipart(content), content_type=MULTIPART)
    if response.status_code == 200:
        assert response.get_json().keys() == {"result"}
    else:
        assert 400 <= response.status_code < 500, response.text
        assert response.get_json(force=True).keys() == PROBLEM_MEMBERS
        assert not any(word in response.text for word in ("Traceback", "/", "Error(", "PIL"))
    return response.status_code


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_of_any_format_and_mode_is_read(client, name):
    assert upload(client, PICTURES[name]) == 200


@pytest.mark.parametrize("name", PICTURES)
def test_a_damaged_picture_is_read_or_refused(client, name):
    statuses = Counter(upload(client, content) for content in damage(PICTURES[name], seed=len(name)))
    assert statuses.keys() <= {200, 400, 415, 422}  # 415: damage makes some AVIFs look like films
    assert statuses[400] + statuses[422] > 0  # otherwise nothing was damaged


@pytest.mark.parametrize("name", BOMBS)
def test_a_decompression_bomb_uses_under_30_mb(client, name):
    tracemalloc.start()
    try:
        upload(client, BOMBS[name])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 30_000_000


@pytest.mark.parametrize("name", NOT_PICTURES)
def test_a_file_that_is_not_a_picture_of_an_allowed_format_is_refused(client, name):
    assert upload(client, NOT_PICTURES[name]) in (400, 422)


def test_bytes_after_the_end_of_a_picture_are_ignored(client):
    for hidden in (b"<script>alert(1)</script>", b"PK\x03\x04", bytes(1000)):
        assert upload(client, encode(FACE, "JPEG") + hidden) == 200


def test_a_picture_with_a_wrong_content_type_is_read(client):
    for kind in ("image/png", "image/jpeg", "image/x-unknown"):
        assert client.post("/", data=encode(FACE, "GIF"), content_type=kind).status_code == 200


def test_a_picture_that_would_keep_a_decoder_busy_is_refused(client):
    busy = TOO_COMPLEX["a JPEG of a thousand scans of few pixels"]
    assert_refused(client.post("/", data=busy, content_type="image/jpeg"), 422, "too_complex")


def test_pictures_of_a_request_that_cannot_be_decoded_count_towards_its_pixels(client):
    response = client.post("/", data=multipart(*[cut_png(900, 900)] * 32, encode(FACE)), content_type=MULTIPART)
    assert_refused(response, 413, "payload_too_large")
    response = client.post("/", data=multipart(*[cut_png(900, 900)] * 31, encode(FACE)), content_type=MULTIPART)
    results = response.get_json()["results"]
    assert [result.get("code") for result in results] == ["undecodable_image", *["too_many_pixels"] * 30, None]


PART = b'--cut\r\nContent-Disposition: form-data; name="file"; filename="x"'
# Each is of 900 kB. To parse most of them whole takes 20 to 40 times as much memory, and much time.
SLOW_BODIES = {
    "a form without files": (b"a&" * 450_000, "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
    "JSON of lists": (b'{"image":[' + b"[]," * 300_000 + b"0]}", "application/json", 400, "bad_request"),
    "JSON of objects": (b'{"image":[' + b'{"a":0},' * 112_000 + b"0]}", "application/json", 400, "bad_request"),
    "JSON of members": (b'{"image":"",' + b'"a":0,' * 150_000 + b'"a":0}', "application/json", 400, "bad_request"),
    "a number": (b'{"image":' + b"9" * 900_000 + b"}", "application/json", 400, "bad_request"),
    "base64 of spaces": (b'{"image":"' + b"AA " * 300_000 + b'"}', "application/json", 422, "undecodable_image"),
    "a part of many headers": (PART + b"\r\nA: b" * 150_000 + b"\r\n\r\n", MULTIPART, 400, "bad_request"),
    "a part of many parameters": (PART + b"; a=b" * 180_000 + b"\r\n\r\n", MULTIPART, 400, "bad_request"),
    "a part of a folded header": (PART + b"\r\nA: " + b"b\r\n " * 220_000 + b"\r\n\r\n", MULTIPART, 400, "bad_request"),
    "many parts": ((PART + b"\r\n\r\nx\r\n") * 12_000 + b"--cut--\r\n", MULTIPART, 413, "payload_too_large"),
    "no part": (b"\r\n" * 450_000, MULTIPART, 400, "missing_file"),
    "half a part at the end": (b"\r\n" * 450_000 + PART, MULTIPART, 400, "missing_file"),
    "dashes": (b"-" * 900_000, "multipart/form-data; boundary=" + "-" * 60, 413, "payload_too_large"),
}


@pytest.mark.parametrize("name", SLOW_BODIES)
def test_a_body_of_many_small_parts_needs_little_memory(client, name):
    body, kind, status, code = SLOW_BODIES[name]
    tracemalloc.start()
    try:
        response = client.post("/", data=body, content_type=kind)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert_refused(response, status, code)
    assert peak < 10 * len(body)


def test_base64_may_have_white_space_and_a_form_may_have_bytes_before_its_first_part(client):
    spaced = base64.encodebytes(encode(FACE)).decode().replace("\n", " \r\n\t")
    assert client.post("/", json={"image": spaced}).status_code == 200
    assert client.post("/", data=b"before\r\n" + multipart(encode(FACE)), content_type=MULTIPART).status_code == 200


BYTES = strategies.binary(max_size=8)
VALUES = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.floats() | strategies.text(),
    lambda inner: strategies.lists(inner, max_size=3) | strategies.dictionaries(BYTES.map(repr), inner, max_size=3),
)
NAMES = strategies.sampled_from(["labels", "reading", "detect", "min_confidence", "detail", "on_no_face"])
GIVEN = strategies.sampled_from(["five", "labels", "auto", "0.5", "nan", "1e999", "full"])
QUERIES = strategies.dictionaries(NAMES | strategies.text(max_size=9), GIVEN | strategies.text(max_size=9), max_size=3)
MEMBERS = strategies.dictionaries(NAMES | strategies.text(max_size=9), GIVEN | VALUES, max_size=3)
IN_JSON = base64.b64encode(encode(FACE)).decode()
BODIES = strategies.one_of(
    strategies.binary(max_size=300),
    strategies.builds(
        lambda head, tail: head + multipart(encode(FACE))[len(head) : -1 - len(tail)] + tail, BYTES, BYTES
    ),
    VALUES.map(lambda value: json.dumps({"image": value}).encode()),
    MEMBERS.map(lambda members: json.dumps({"image": IN_JSON} | members).encode()),
    QUERIES.map(lambda fields: multipart(encode(FACE), fields=[*fields.items()])),
)
TYPES = strategies.sampled_from([MULTIPART, "multipart/form-data", "application/json", "image/png", "text/plain", ""])


@settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(body=BODIES, kind=TYPES, query=QUERIES, path=strategies.sampled_from(["/", "/v1/predict"]))
def test_any_body_type_and_query_is_answered_with_200_or_a_problem_document(client, body, kind, query, path):
    response = client.post(path, data=body, content_type=kind, query_string=query)
    assert response.status_code < 500, response.text
    if response.status_code != 200:
        assert response.get_json(force=True).keys() == PROBLEM_MEMBERS


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files in /proc")
def test_no_file_or_picture_stays_open_after_the_answer():
    predictor = StubPredictor()
    client = create_app(Service(predictor), LIMITS).test_client()

    def count_open() -> tuple[int, int]:
        """Open files of this process, and live pictures and buffers."""
        predictor.seen.clear()
        gc.collect()
        objects = [thing for thing in gc.get_objects() if issubclass(type(thing), (Image.Image, io.BytesIO))]
        return len(list(Path("/proc/self/fd").iterdir())), len(objects)

    contents = [content for name in PICTURES for content in damage(PICTURES[name], 1)]
    for content in contents[:200]:
        upload(client, content)
    files_before, objects_before = count_open()
    for content in contents:
        upload(client, content)
    files, objects = count_open()
    assert files <= files_before
    assert objects <= objects_before + 5
