"""What strangers send on purpose: every format in odd modes, cut, spoilt, lying, far too large, and what is no picture.

Every answer is 200 or a problem of ours that is the caller's fault, and nothing stays behind.
"""

from __future__ import annotations

import gc
import io
import json
import random
import struct
import tracemalloc
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import MULTIPART, draw_face, encode, multipart
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings, strategies
from PIL import Image
from test_web import LIMITS, PROBLEM_MEMBERS, StubPredictor

from dexpression.picture import FORMATS
from dexpression.web import create_app
from dexpression.web.service import Service

MODES = ("L", "RGB", "P", "1", "CMYK", "LA", "RGBA", "I;16", "YCbCr", "PA")
FACE = draw_face("HAPPY", 0)
BMP = encode(FACE, "BMP")


@pytest.fixture(scope="module")
def client() -> FlaskClient:
    return create_app(Service(StubPredictor()), LIMITS).test_client()


def pictures() -> dict[str, bytes]:
    """Of every format in every mode that it can store, plain and with what cameras and editors add."""
    found = {}
    for name in FORMATS:
        for mode in MODES:
            try:
                found[f"{name} {mode}"] = encode(FACE.convert(mode), name)
            except (OSError, ValueError):  # the format has no such mode
                continue
    frames = [Image.new("L", FACE.size, shade) for shade in (0, 128, 255)]
    for name in ("GIF", "WEBP", "PNG"):
        found[f"{name} animated"] = encode(FACE, name, save_all=True, append_images=frames)
    found["JPEG profile"] = encode(FACE, "JPEG", icc_profile=b"no profile" * 100)
    found["JPEG large EXIF"] = encode(FACE, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0" + bytes(60_000))
    found["PNG transparent palette"] = encode(FACE.convert("P"), transparency=0)
    found["BMP in a GIF's name"] = encode(FACE, "BMP")
    return found


PICTURES = pictures()


def spoilt(content: bytes, seed: int) -> Iterator[bytes]:
    """Cut at every tenth of its length; bits flipped, bytes put in and taken out at chance places."""
    chance = random.Random(seed)
    yield from (content[: len(content) * tenth // 10] for tenth in range(10))
    for _ in range(20):
        damaged = bytearray(content)
        for _ in range(chance.randint(1, 8)):
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        yield bytes(damaged)
    for _ in range(5):
        place = chance.randrange(len(content))
        yield content[:place] + chance.randbytes(7) + content[place:]
        yield content[:place] + content[place + 7 :]


def png(width: int, height: int, data: bytes = b"") -> bytes:
    """One that says that it is so large, whatever it holds."""
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", data), (b"IEND", b""))
    body = b"".join(
        struct.pack(">I", len(part)) + kind + part + struct.pack(">I", zlib.crc32(kind + part)) for kind, part in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def gif_of_many_frames() -> bytes:
    frame = Image.new("P", (900, 900))
    return encode(frame, "GIF", save_all=True, append_images=[Image.new("P", (900, 900), n) for n in range(60)])


BOMBS = {
    "pixels in few bytes": encode(Image.new("1", (1001, 1000))),
    "a PNG of all pixels there are": png(2**31 - 1, 2**31 - 1),
    "a PNG without width": png(0, 10),
    "a PNG that unpacks to far more than it says": png(10, 10, zlib.compress(bytes(50_000_000))),
    "a GIF of many frames": gif_of_many_frames(),
    "a BMP that says it is huge": BMP[:18] + struct.pack("<ii", 2**30, 2**30) + BMP[26:],
    "a BMP upside down": BMP[:22] + struct.pack("<i", -48) + BMP[26:],
    "a WebP that says it is huge": encode(FACE, "WEBP")[:4] + b"\xff\xff\xff\xff" + encode(FACE, "WEBP")[8:],
}
NO_PICTURES = {
    "nothing": b"",
    "a byte": b"\x89",
    "a TIFF": encode(FACE, "TIFF"),
    "an ICO": encode(FACE, "ICO"),
    "an EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 48 48\n",
    "an SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "a picture list": b"#EXTM3U\nfile:///etc/passwd\n",
    "a page": b"<html><script>alert(1)</script></html>",
    "a ZIP": b"PK\x03\x04" + bytes(100),
    "a page in front of a JPEG": b"<script>alert(1)</script>" + encode(FACE, "JPEG"),
}


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
