"""A replica of Ray Serve without Ray: bodies of requests, the one thread, and the check of its health."""

from __future__ import annotations

import asyncio
import json
import tempfile
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from dexpression.artifact.manifest import load_onnx_model
from dexpression.settings import Settings
from tests.cluster.conftest import FACE
from tests.support.web import MULTIPART, multipart

pytest.importorskip("a2wsgi", reason="a2wsgi is not installed; it is in the extra [cluster]")

from dexpression.cluster.bodies import WholeBodies
from dexpression.cluster.replica import Replica

LIMIT = 100_000  # bytes of a body
CHUNK = 10_000
FORM = multipart(FACE)


@pytest.fixture
def replica() -> Replica:
    settings = Settings(max_upload_bytes=LIMIT)
    return Replica(settings, load_onnx_model(settings.model_path))


class Answer(NamedTuple):
    """What the app sent, and how many pieces of the body it read."""

    sent: list[dict[str, Any]]
    pieces: int

    @property
    def status(self) -> int:
        return self.sent[0]["status"]

    @property
    def body(self) -> dict[str, Any]:
        return json.loads(b"".join(message.get("body", b"") for message in self.sent))


def post(app: Callable[..., Any], pieces: list[bytes | None], *headers: tuple[bytes, bytes]) -> Answer:
    """POST a body in pieces, after the last of which the client waits for the answer; None is a disconnect."""
    sent: list[dict[str, Any]] = []
    read = 0

    async def receive() -> dict[str, Any]:
        nonlocal read
        if read == len(pieces):
            await asyncio.Event().wait()
        read += 1
        if (piece := pieces[read - 1]) is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": piece, "more_body": piece != b""}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "http_version": "1.1", "method": "POST", "path": "/", "query_string": b"", "root_path": ""}
    scope["headers"] = [(b"content-type", MULTIPART.encode()), (b"x-request-id", b"one-id"), *headers]
    asyncio.run(app(scope, receive, send))
    return Answer(sent, read)


def in_pieces(body: bytes, size: int = CHUNK) -> list[bytes | None]:
    return [*(body[start : start + size] for start in range(0, len(body), size)), b""]


def test_a_body_in_chunks_is_answered_from_memory(replica, monkeypatch):
    app = replica.__serve_build_asgi_app__()
    monkeypatch.setattr(tempfile, "_get_default_tempdir", None)
    for name in ("TemporaryFile", "NamedTemporaryFile", "SpooledTemporaryFile", "mkstemp"):
        monkeypatch.setattr(tempfile, name, None)
    answer = post(app, in_pieces(FORM, 100), (b"transfer-encoding", b"chunked"))
    assert (answer.status, answer.body) == (200, {"result": "HAPPY"})


def test_the_id_of_a_request_is_left_to_the_proxy_which_sends_it_too(replica):
    answer = post(replica.__serve_build_asgi_app__(), in_pieces(b"no picture"))
    assert answer.body["request_id"] == "one-id"
    assert b"x-request-id" not in dict(answer.sent[0]["headers"])


@pytest.mark.parametrize(
    ("header", "read"),
    [((b"transfer-encoding", b"chunked"), LIMIT // CHUNK + 1), ((b"content-length", b"%d" % (LIMIT + 1)), 0)],
)
def test_a_body_that_is_too_large_is_refused_and_read_no_further(replica, header, read):
    answer = post(replica.__serve_build_asgi_app__(), in_pieces(bytes(10 * LIMIT)), header)
    assert (answer.status, answer.body["code"], answer.pieces) == (413, "payload_too_large", read)


@pytest.mark.parametrize("header", [(b"transfer-encoding", b"chunked"), (b"content-length", b"9000")])
def test_a_body_that_does_not_end_is_refused_after_some_time(replica, header):
    answer = post(WholeBodies(replica._app, LIMIT, seconds=0.01), [b"the beginning"], header)
    assert (answer.status, answer.body["code"]) == (400, "bad_request")
    assert answer.body["detail"] == "The body was not complete after 0.01 s. Send a smaller picture."


def test_a_client_that_disconnects_before_its_request_is_complete_gets_no_answer(replica):
    assert post(replica.__serve_build_asgi_app__(), [b"the beginning", None]).sent == []


def test_a_replica_that_cannot_predict_is_not_healthy(replica, monkeypatch):
    asyncio.run(replica.check_health())
    monkeypatch.setattr(replica._service, "predictor", None)
    with pytest.raises(RuntimeError, match="cannot predict"):
        asyncio.run(replica.check_health())


def test_a_replica_whose_thread_hangs_is_not_healthy(replica):
    is_over = threading.Event()
    replica._app.executor.submit(is_over.wait)

    async def check() -> None:
        await asyncio.wait_for(replica.check_health(), 0.01)

    try:
        with pytest.raises(TimeoutError):
            asyncio.run(check())
    finally:
        is_over.set()
