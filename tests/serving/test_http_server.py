"""The queue, the connections and the memory of one HTTP server, which answers with a stub predictor."""

from __future__ import annotations

import contextlib
import errno
import json
import re
import select
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPResponse
from typing import Any

import pytest
from PIL import Image
from waitress.channel import HTTPChannel

from dexpression.errors import StartError
from dexpression.picture import Picture
from dexpression.reading import Reading
from dexpression.serving import acceptor
from dexpression.serving.http_server import MAX_BUFFERED_UPLOADS, MAX_LARGE, HttpServer
from dexpression.serving.leadership import MAX_THREADS
from dexpression.settings import Settings
from dexpression.web import create_app
from dexpression.web.service import Service
from tests.support.faces import encode
from tests.support.server import DEADLINE_SECONDS, ask, connect, wait_until
from tests.support.web import FACE, PROBLEM_MEMBERS, StubPredictor, multipart, post_request

REQUEST = post_request(multipart(FACE))


class BlockingPredictor(StubPredictor):
    """A stub whose calls wait for `allow`. `started` counts the calls that a test has not waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.started, self._allowed = threading.Semaphore(0), threading.Semaphore(0)

    def predict(self, picture: Picture, *arguments: Any) -> Reading:
        self.started.release()
        assert self._allowed.acquire(timeout=DEADLINE_SECONDS)
        return super().predict(picture, *arguments)

    def allow(self, calls: int = 1000) -> None:
        self._allowed.release(calls)

    def wait_for_call(self) -> None:
        assert self.started.acquire(timeout=DEADLINE_SECONDS), "The server does not call the predictor."


class RunningServer:
    """An HttpServer in a thread, and connections to it."""

    def __init__(self, predictor: StubPredictor, **given: Any) -> None:
        settings, service = Settings(**given), Service(predictor)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.times_overdue = 0
        app = create_app(service, settings)
        self._server = HttpServer(app, self._listener, settings, on_overdue=self._count_overdue)
        self._thread = threading.Thread(target=self._server.run, args=(service,), daemon=True)
        self._thread.start()
        self._connections: list[socket.socket] = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def _count_overdue(self) -> None:
        self.times_overdue += 1

    def connect(self) -> socket.socket:
        """Open a connection that `stop` closes."""
        self._connections.append(connect(self.url))
        return self._connections[-1]

    def send(self, request: bytes = REQUEST) -> socket.socket:
        """Send a request, by default a picture, on a new connection."""
        connection = self.connect()
        with contextlib.suppress(OSError):  # the server may answer and close before the end of the request
            connection.sendall(request)
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


def get(path: str) -> bytes:
    """A GET request."""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


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
    server = serve(max_queue=1)
    first, others, _ = send_while_busy(server, predictor, 5)
    predictor.allow()
    answers = [(read_answer(connection), connection) for connection in [first, *others]]
    [(_, body), connection] = next(answer for answer in answers if answer[0][0] == 503)
    problem = json.loads(body)
    assert (problem["status"], problem["code"]) == (503, "overloaded")
    assert problem.keys() == PROBLEM_MEMBERS
    connection.sendall(get("/health/live"))
    assert read_answer(connection)[0] == 200
    connection.sendall(get("/metrics"))
    assert b"dexpression_requests_waiting 0.0" in read_answer(connection)[1]


def test_a_refusal_below_v2_has_the_form_of_the_open_inference_protocol(serve, predictor):
    server = serve(max_queue=1)
    slow = [server.send()]
    predictor.wait_for_call()
    tensor = {"name": "crops", "shape": [1, 1, 48, 48], "datatype": "UINT8", "data": [7] * 2304}
    body = json.dumps({"inputs": [tensor]}).encode()
    request = post_request(body, "application/json").replace(b"/ ", b"/v2/models/dexpression/infer ", 1)
    waiting = [server.send(request) for _ in range(3)]
    answered, *_ = select.select(waiting, [], [], DEADLINE_SECONDS)
    refused = HTTPResponse(answered[0])
    refused.begin()
    predictor.allow()
    assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
    assert refused.headers["Content-Type"] == "application/json"  # KServe's client reads the error of no other type
    assert json.loads(refused.read()).keys() == {"error"}
    assert codes(*slow) == ["200"]


def test_while_a_picture_takes_long_the_worker_answers_everything_else(serve, predictor):
    server = serve()
    slow = server.send()
    predictor.wait_for_call()
    assert read_answer(server.send(get("/health/live")))[0] == 200
    second = server.send()
    predictor.wait_for_call()  # of the second picture, although the first is not answered
    predictor.allow()
    assert codes(slow, second) == ["200"] * 2


def test_pictures_that_all_take_long_leave_a_thread_for_health_checks_and_refusals(serve, predictor, monkeypatch):
    server = serve(queue_timeout_seconds=60, request_timeout_seconds=3600)
    slow = []
    for _ in range(MAX_THREADS - 1):
        slow.append(server.send())
        predictor.wait_for_call()
    waiting = server.send()
    assert read_answer(server.send(get("/health/live")))[0] == 200
    assert not predictor.started.acquire(timeout=0.3)
    advance_clock(monkeypatch, 61)
    assert codes(waiting) == ["overloaded"]
    predictor.allow()
    assert codes(*slow) == ["200"] * len(slow)


def test_a_request_that_takes_too_long_is_given_up_and_the_worker_asks_to_be_replaced(serve, predictor):
    server = serve(request_timeout_seconds=1.0)
    slow = server.send()
    predictor.wait_for_call()
    status, body = read_answer(slow)
    assert (status, json.loads(body)["code"]) == (422, "too_complex")
    assert slow.recv(1) == b""  # the connection is closed
    assert server.times_overdue == 1
    predictor.allow()  # the late answer goes nowhere
    assert ask(server.url, FACE)[0] == 200
    assert server.times_overdue == 1


def test_the_next_request_of_a_connection_is_read_when_the_last_answer_has_left(serve):
    server = serve()
    path = "/docs/swagger-ui-bundle.js"
    greedy = socket.socket()
    greedy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    host, port = server.url.removeprefix("http://").split(":")
    greedy.connect((host, int(port)))
    greedy.sendall(get(path) * 150)
    assert read_answer(server.send(get("/health/live")))[0] == 200
    wait_until(lambda: any(channel.total_outbufs_len > 100_000 for channel in server.channels))
    [channel] = [channel for channel in server.channels if channel.total_outbufs_len > 100_000]
    wait_until(lambda: not channel.requests)
    assert channel.unread_bytes < 100_000  # its one answer is a file, which all connections share
    greedy.settimeout(DEADLINE_SECONDS)
    assert read_answer(greedy) == (200, ask(server.url + path)[1])
    greedy.close()
    wait_until(lambda: channel not in server.channels)


def test_pipelined_requests_are_answered_in_order(serve, predictor):
    predictor.allow()
    last = get("/health/live").replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
    connection = serve().send(get("/health/live") + REQUEST + get("/nothing") + last)
    answers = b"".join(iter(lambda: connection.recv(4096), b""))
    assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"200", b"200", b"404", b"200"]


LARGE_HEADER = b"A: " + b"a" * 300_000 + b"\r\n"
START = b"POST / HTTP/1.1\r\nHost: localhost\r\nOrigin: https://a.example\r\n"
CHUNKED = START + b"Transfer-Encoding: chunked\r\n\r\n"
LARGE = encode(Image.new("RGB", (600, 600)), "BMP")  # 1 MB
REFUSED = {
    "large header": (START + LARGE_HEADER + b"\r\n", 431),
    "large body": (START + b"Content-Length: 90000000\r\n\r\n" + bytes(1_000_000), 413),
    "bad header": (START + b"no colon\r\n\r\n", 400),
    "two lengths": (START + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400),
    "chunks in HTTP/1.0": (CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0") + b"0\r\n\r\n", 400),
    "another encoding": (CHUNKED.replace(b"chunked", b"gzip"), 501),
    "endless chunk line": (CHUNKED + b"1;secret-a=" + b"a" * 5_000, 400),
    "endless trailer": (CHUNKED + b"1\r\na\r\n0\r\n" + b"secret-a: b\r\n" * 5_000, 400),
    "tiny chunks": (CHUNKED + b"1\r\na\r\n" * 50_000, 400),
    "no address": (START.replace(b"/ ", b"http://[secret-a]/ ", 1) + b"\r\n", 400),
}


@pytest.mark.parametrize(("request_bytes", "expected"), REFUSED.values(), ids=REFUSED)
def test_a_request_that_is_no_request_is_refused_whoever_sends_it(serve, caplog, request_bytes, expected):
    connection = serve(cors_origins="https://a.example").send(request_bytes)
    response = HTTPResponse(connection)
    response.begin()
    assert response.status == expected
    assert json.loads(response.read()).keys() == PROBLEM_MEMBERS
    if b"http://" not in request_bytes:
        assert response.headers["Access-Control-Allow-Origin"] == "https://a.example"
        assert response.headers["Vary"] == "Origin"
    assert connection.recv(1) == b""  # the connection is closed
    assert "secret" not in caplog.text
    assert "Traceback" not in caplog.text


def test_a_refusal_below_the_app_has_the_cors_headers_of_the_app(serve, predictor):
    origin = "https://a.example"
    request = REQUEST.replace(b"\r\n", f"\r\nOrigin: {origin}\r\n".encode(), 1)
    server = serve(cors_origins=origin, max_queue=1)
    slow = [server.send(request)]
    predictor.wait_for_call()
    slow += [server.send(request * 2) for _ in range(10)]
    predictor.allow()
    allowed = set()
    for connection in slow:
        response = HTTPResponse(connection)
        response.begin()
        response.read()
        names = ("Access-Control-Allow-Origin", "Access-Control-Expose-Headers", "Vary")
        allowed.add((response.status, *(response.headers[name] for name in names)))
    assert {status for status, *_ in allowed} == {200, 503}
    assert len({tuple(headers) for _, *headers in allowed}) == 1


def test_at_the_limit_of_connections_the_one_that_is_idle_for_longest_is_closed(serve, predictor, monkeypatch):
    monkeypatch.setattr(acceptor, "MAX_CONNECTIONS", 4)
    predictor.allow()
    server = serve()
    idle = [server.connect() for _ in range(4)]
    wait_until(lambda: len(server.channels) == 4)
    sending = idle.pop()
    sending.sendall(REQUEST[:50])
    time.sleep(2 * acceptor.MIN_IDLE_SECONDS)
    assert codes(server.send()) == ["200"]
    sending.sendall(REQUEST[50:])
    assert codes(sending) == ["200"]
    assert idle[0].recv(1) == b""


def test_new_connections_at_the_limit_are_not_mixed_up_with_those_that_were_closed(serve, predictor, monkeypatch):
    monkeypatch.setattr(acceptor, "MAX_CONNECTIONS", 10)
    monkeypatch.setattr(acceptor, "MIN_IDLE_SECONDS", 0)
    predictor.allow()
    server = serve()
    for _ in range(20):
        for idle in [server.connect() for _ in range(12)]:
            with contextlib.suppress(OSError):  # it may be closed already
                idle.sendall(b"GET /")  # an event in the poll in which it is closed
        assert codes(server.send()) == ["200"]


def test_connections_of_clients_that_do_not_read_are_closed_for_new_ones(serve, predictor, monkeypatch):
    monkeypatch.setattr(acceptor, "MAX_CONNECTIONS", 4)
    predictor.allow()
    server = serve()
    for _ in range(4):
        server.send(get("/docs/swagger-ui-bundle.js") * 20)
    wait_until(lambda: sum(channel.total_outbufs_len > 0 for channel in server.channels) == 4)
    assert codes(server.send()) == ["200"]


def test_urgent_data_closes_the_connection(serve, predictor, caplog):
    predictor.allow()
    server = serve()
    urgent = server.connect()
    urgent.send(b"x", socket.MSG_OOB)
    with contextlib.suppress(ConnectionResetError):
        assert urgent.recv(1) == b""
    assert codes(server.send()) == ["200"]
    assert [record for record in caplog.records if record.levelname != "INFO"] == []


def test_what_follows_a_refused_request_is_not_a_request(serve, predictor):
    predictor.allow()
    server = serve()
    smuggling = server.send(REFUSED["two lengths"][0] + REQUEST)
    assert read_answer(smuggling)[0] == 400
    assert smuggling.recv(1) == b""
    assert predictor.seen == []


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /health/live HTTP/1.1\r\n", 200),
        (b"POST / HTTP/1.1\r\nContent-Length: 0\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: no\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 90000000\r\n", 413),
    ],
)
def test_a_request_that_expects_to_be_asked_for_its_body_is_answered_without_one(serve, head, status):
    connection = serve().send(head + b"Host: localhost\r\nExpect: 100-continue\r\n\r\n")
    assert read_answer(connection)[0] == status


def test_a_refused_head_request_has_no_body(serve):
    connection = serve().send(b"HEAD / HTTP/1.1\r\nHost: localhost\r\n" + LARGE_HEADER + b"\r\n")
    answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert b" 431 " in answer.partition(b"\r\n")[0]
    assert answer.endswith(b"\r\n\r\n")


def test_a_client_that_has_sent_all_and_says_so_is_answered(serve, predictor):
    half_closed = serve().send()
    half_closed.shutdown(socket.SHUT_WR)
    predictor.wait_for_call()
    time.sleep(0.3)  # a follower polls meanwhile
    predictor.allow()
    assert codes(half_closed) == ["200"]


def test_empty_lines_are_no_requests(serve, predictor):
    predictor.allow()
    server = serve()
    assert codes(server.send(b"\r\n" * 50_000 + REQUEST)) == ["200"]


def test_no_more_than_a_few_large_requests_are_worked_on_at_once_and_small_ones_pass_them(serve, predictor):
    server = serve()
    large = post_request(LARGE, "image/bmp")
    waiting = [server.send(large) for _ in range(MAX_LARGE + 2)]
    for _ in range(MAX_LARGE):
        predictor.wait_for_call()
    assert not predictor.started.acquire(timeout=0.3)
    small = server.send()
    predictor.wait_for_call()  # of the small one
    predictor.allow()
    assert codes(small, *waiting) == ["200"] * (MAX_LARGE + 3)


MANY_PIXELS = encode(Image.new("1", (3000, 3000)))  # 1 kB


def test_a_picture_of_few_bytes_and_many_pixels_counts_as_a_large_one(serve, predictor):
    server = serve()
    waiting = [server.send(post_request(multipart(MANY_PIXELS))) for _ in range(MAX_LARGE + 10)]
    for _ in range(MAX_LARGE):
        predictor.wait_for_call()
    assert not predictor.started.acquire(timeout=0.3)
    small = server.send()
    predictor.wait_for_call()
    predictor.allow()
    assert codes(small, *waiting) == ["200"] * (MAX_LARGE + 11)


def test_a_stop_answers_the_requests_that_were_sent_behind_each_other(serve, predictor):
    server = serve()
    connection = server.send(REQUEST * 3)
    predictor.wait_for_call()
    server._server.stop()
    predictor.allow()
    answers = b"".join(iter(lambda: connection.recv(4096), b""))
    assert answers.count(b"HTTP/1.1 200 OK") == 3
    assert answers.count(b"Connection: close") == 1


def test_an_upload_goes_on_while_many_pictures_are_answered(serve, predictor):
    predictor.allow(100_000)
    server = serve()
    busy = [server.send(REQUEST * 200) for _ in range(8)]
    upload = server.send(post_request(LARGE, "image/bmp"))
    assert codes(upload) == ["200"]
    assert len(predictor.seen) < 8 * 200  # the others were not all answered before
    for connection in busy:
        connection.close()


def test_a_lack_of_file_descriptors_is_one_line_and_no_busy_loop(serve, predictor, caplog, monkeypatch):
    predictor.allow()
    server, tries = serve(), []

    def accept() -> None:
        tries.append(time.monotonic())
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(acceptor, "PAUSE_SECONDS", 0.2)
    with monkeypatch.context() as patch:
        patch.setattr(server._server._server, "accept", accept)
        late = server.send()
        wait_until(lambda: len(tries) == 3)
    assert tries[2] - tries[0] >= 0.4
    assert codes(late) == ["200"]
    assert len([line for line in caplog.messages if "Too many open files" in line]) == 1


def test_a_process_that_may_open_too_few_files_is_not_started(monkeypatch):
    resource = pytest.importorskip("resource", reason="Windows has no limit of open files")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (12, 12))
    settings = Settings()
    app = create_app(Service(StubPredictor()), settings)
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(StartError, match="ulimit -n"):
        HttpServer(app, listener, settings)


def test_slow_senders_do_not_delay_other_requests(serve, predictor):
    predictor.allow()
    server = serve()
    for _ in range(50):
        server.connect().sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nx")
    wait_until(lambda: sum(channel.request is not None for channel in server.channels) == 50)
    assert ask(server.url, FACE)[0] == 200


def test_large_uploads_that_are_never_completed_do_not_fill_the_memory(serve, predictor):
    predictor.allow()
    server = serve(max_upload_bytes=100_000)
    started = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n" + bytes(90_000)
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
