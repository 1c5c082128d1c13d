"""The queue, the connections and the memory of one HTTP server, which answers with a stub predictor."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPResponse

import pytest
from PIL import Image
from waitress.channel import HTTPChannel

from dexpression.picture import Picture
from dexpression.reading import Reading
from dexpression.serving.http_server import MAX_BUFFERED_UPLOADS, HttpServer
from dexpression.settings import Settings
from dexpression.web import create_app
from dexpression.web.service import Service
from tests.support.faces import encode
from tests.support.server import DEADLINE_SECONDS, ask, connect, wait_until
from tests.support.web import FACE, MULTIPART, PROBLEM_MEMBERS, StubPredictor, multipart

BODY = multipart(FACE)
HEAD = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: {MULTIPART}\r\nContent-Length: {len(BODY)}\r\n\r\n"
REQUEST = HEAD.encode() + BODY


class BlockingPredictor(StubPredictor):
    """A stub whose calls wait for `allow`. `started` counts the calls that a test has not waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.started, self._allowed = threading.Semaphore(0), threading.Semaphore(0)

    def predict(self, picture: Picture, detect: str = "auto", whole: bool = False) -> Reading:
        self.started.release()
        assert self._allowed.acquire(timeout=DEADLINE_SECONDS)
        return super().predict(picture, detect, whole)

    def allow(self, calls: int = 1000) -> None:
        self._allowed.release(calls)

    def wait_for_call(self) -> None:
        assert self.started.acquire(timeout=DEADLINE_SECONDS), "The server does not call the predictor."


class RunningServer:
    """An HttpServer in a thread, and connections to it."""

    def __init__(self, predictor: StubPredictor, **given: float) -> None:
        settings, service = Settings(**given), Service(predictor)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._server = HttpServer(create_app(service, settings), self._listener, settings)
        self._thread = threading.Thread(target=self._server.run, args=(service,), daemon=True)
        self._thread.start()
        self._connections: list[socket.socket] = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def connect(self) -> socket.socket:
        """Open a connection that `stop` closes."""
        self._connections.append(connect(self.url))
        return self._connections[-1]

    def send(self) -> socket.socket:
        """Send a picture on a new connection."""
        connection = self.connect()
        connection.sendall(REQUEST)
        return connection

    @property
    def channels(self) -> list[HTTPChannel]:
        """The server's ends of its open connections."""
        return list(self._server._server.active_channels.values())

    @property
    def buffered_bytes(self) -> int:
        """The size of all requests in the server's memory."""
        return self._server._server.adj.buffered_bytes

    def stop(self) -> None:
        for connection in self._connections:
            connection.close()
        self._server.stop()
        self._thread.join(DEADLINE_SECONDS)
        assert not self._thread.is_alive(), f"The server does not stop within {DEADLINE_SECONDS:g} s."
        self._listener.close()


@pytest.fixture
def predictor() -> BlockingPredictor:
    return BlockingPredictor()


@pytest.fixture
def serve(predictor: BlockingPredictor) -> Iterator[Callable[..., RunningServer]]:
    """Start a server with these settings."""
    servers: list[RunningServer] = []

    def start(**given: float) -> RunningServer:
        servers.append(RunningServer(predictor, **given))
        return servers[-1]

    yield start
    predictor.allow()
    for server in servers:
        server.stop()


def unread(channel: HTTPChannel) -> bytes | None:
    """Bytes that the server can read from a connection; empty if the client has disconnected, None if it is idle."""
    try:
        return channel.socket.recv(2 * len(REQUEST), socket.MSG_PEEK)
    except BlockingIOError:
        return None


def send_while_busy(
    server: RunningServer, predictor: BlockingPredictor, count: int
) -> tuple[socket.socket, list[socket.socket], list[HTTPChannel]]:
    """Send one picture, and `count` more during its prediction, which waits for `predictor.allow`.

    Returns the first connection, the others, and the server's ends of the others. The server reads all the other
    requests in its next poll, because all their bytes have arrived.
    """
    others = [server.connect() for _ in range(count)]
    wait_until(lambda: len(server.channels) == count)
    channels = server.channels
    first = server.send()
    predictor.wait_for_call()
    for connection in others:
        connection.sendall(REQUEST)
    wait_until(lambda: all(unread(channel) == REQUEST for channel in channels))
    return first, others, channels


def read_answer(connection: socket.socket) -> tuple[int, bytes]:
    """Status and body of the next answer on a connection."""
    response = HTTPResponse(connection)
    response.begin()
    return response.status, response.read()


def codes(*connections: socket.socket) -> list[str]:
    """The `code` of each answer, or its status if it is not a problem document; sorted."""
    answers = [read_answer(connection) for connection in connections]
    return sorted(str(json.loads(body).get("code", status)) for status, body in answers)


def advance_clock(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let the server's clock jump, in place of a wait."""
    now = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: now() + seconds)


def test_pictures_that_do_not_fit_into_the_queue_are_refused(serve, predictor):
    server = serve(max_queue=2)
    first, others, _ = send_while_busy(server, predictor, 5)
    predictor.allow()
    assert codes(first, *others) == ["200"] * 3 + ["overloaded"] * 3


def test_a_request_that_waited_too_long_is_refused_without_a_prediction(serve, predictor, monkeypatch):
    server = serve(queue_timeout_seconds=60)
    first, others, _ = send_while_busy(server, predictor, 3)
    predictor.allow(1)
    predictor.wait_for_call()  # of one of the others; the other two are in the queue since the same poll
    advance_clock(monkeypatch, 61)
    predictor.allow()
    assert codes(first, *others) == ["200"] * 2 + ["overloaded"] * 2
    assert len(predictor.seen) == 2


def test_requests_of_clients_that_have_disconnected_are_not_predicted(serve, predictor, monkeypatch):
    server = serve()
    first, others, channels = send_while_busy(server, predictor, 3)
    predictor.allow(1)
    predictor.wait_for_call()  # of one of the others
    for connection in others:
        connection.close()
    wait_until(lambda: all(unread(channel) == b"" for channel in channels))
    advance_clock(monkeypatch, 1)  # longer than MAX_BATCH_SECONDS, so that the server polls its connections next
    predictor.allow()
    assert codes(first, server.send()) == ["200"] * 2
    assert len(predictor.seen) == 3


def test_a_refusal_is_a_problem_document_and_keeps_the_connection_open(serve, predictor):
    connection = serve(queue_timeout_seconds=-1).send()  # every wait is longer
    status, body = read_answer(connection)
    problem = json.loads(body)
    assert (status, problem["code"]) == (503, "overloaded")
    assert problem.keys() == PROBLEM_MEMBERS
    connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
    assert read_answer(connection)[0] == 200
    connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"dexpression_requests_waiting 0.0" in read_answer(connection)[1]
    assert predictor.seen == []


def test_slow_senders_do_not_delay_other_requests(serve, predictor):
    predictor.allow()
    server = serve()
    for _ in range(50):
        server.connect().sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx")
    wait_until(lambda: sum(channel.request is not None for channel in server.channels) == 50)
    assert ask(server.url, FACE)[0] == 200


def test_large_uploads_that_are_never_completed_do_not_fill_the_memory(serve, predictor):
    predictor.allow()
    server = serve(max_upload_bytes=100_000)
    started = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + bytes(90_000)
    uploads = [server.connect() for _ in range(40)]
    for upload in uploads:
        with contextlib.suppress(OSError):  # the server may refuse it, and close the connection, before its end
            upload.sendall(started)

    def refused() -> list[socket.socket]:
        return select.select(uploads, [], [], 0)[0]

    def kept() -> int:
        return sum(getattr(channel.request, "counted", 0) == len(started) for channel in server.channels)

    wait_until(lambda: len(refused()) + kept() == len(uploads))
    answers = []
    for upload in refused():
        with contextlib.suppress(OSError):  # the answer is lost if the client still sends when the server closes
            answers.append(upload.recv(4096))
    answers = [answer for answer in answers if answer]
    assert kept() * len(started) <= server.buffered_bytes <= MAX_BUFFERED_UPLOADS * 100_000
    assert len(answers) > 5
    assert all(answer.startswith(b"HTTP/1.1 503 ") for answer in answers)
    assert ask(server.url, FACE)[0] == 200
    for upload in uploads:
        upload.close()
    wait_until(lambda: server.buffered_bytes == 0)
    assert ask(server.url, bytes(90_000))[0] == 422  # it is read to its end, because there is room again


def test_an_upload_is_never_written_to_disk(serve, predictor, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")  # a temporary file would now be an error
    predictor.allow()
    server = serve(max_upload_bytes=2_000_000)
    large = encode(Image.effect_noise((1200, 1200), 100), "BMP")
    assert len(large) > 1_000_000  # by default, waitress writes more than 512 kB to disk
    assert ask(server.url, large)[0] == 200
    assert ask(server.url, bytes(2_000_001))[0] == 413


@pytest.mark.parametrize("hours", [-24, 24], ids=["back", "ahead"])
def test_a_jump_of_the_system_clock_disturbs_no_complete_request(serve, predictor, monkeypatch, hours):
    server, now = serve(), time.time
    first, others, _ = send_while_busy(server, predictor, 3)
    predictor.allow(1)
    predictor.wait_for_call()  # of one of the others; the other two are in the queue
    monkeypatch.setattr(time, "time", lambda: now() + hours * 3600)
    unaccepted = [server.send() for _ in range(3)]
    predictor.allow()
    assert codes(first, *others, *unaccepted, server.send()) == ["200"] * 8
