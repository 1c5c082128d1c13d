"""What waits, what is told that it cannot, and what need not wait."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from dexpression.picture import Picture
from dexpression.reading import Reading
from dexpression.serving.http_server import HttpServer
from dexpression.settings import Settings
from dexpression.web import create_app
from dexpression.web.service import Service
from tests.support.server import ask, connect
from tests.support.web import FACE, MULTIPART, StubPredictor, multipart


class SlowPredictor(StubPredictor):
    """Answers as often as it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.permits = threading.Semaphore(0), threading.Semaphore(0)

    def predict(self, picture: Picture, detect: str = "auto", whole: bool = False) -> Reading:
        self.begun.release()
        assert self.permits.acquire(timeout=20)
        return super().predict(picture, detect, whole)

    def answer(self, times: int = 1000) -> None:
        self.permits.release(times)


@pytest.fixture
def predictor() -> SlowPredictor:
    return SlowPredictor()


@pytest.fixture
def serve(predictor: SlowPredictor) -> Iterator[Callable[..., str]]:
    """Start a server in a thread; its address."""
    stops: list[Callable[[], None]] = []

    def start(**given: float) -> str:
        settings, service = Settings(**given), Service(predictor)
        listener = socket.create_server(("127.0.0.1", 0))
        server = HttpServer(create_app(service, settings), listener, settings)
        thread = threading.Thread(target=server.run, args=(service,))
        thread.start()
        stops.extend([server.stop, thread.join, listener.close])
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    predictor.answer()
    for stop in stops:
        stop()


def send(threads: ThreadPoolExecutor, url: str, count: int) -> list[Future[tuple[int, bytes]]]:
    return [threads.submit(ask, url, FACE) for _ in range(count)]


Answers = list[Future[tuple[int, bytes]]]


def send_while_it_works(
    threads: ThreadPoolExecutor, url: str, predictor: SlowPredictor, count: int
) -> tuple[Answers, Answers]:
    """One request, and others that come while it is worked on: they are looked at when it is done."""
    first = send(threads, url, 1)
    assert predictor.begun.acquire(timeout=20)
    others = send(threads, url, count)
    time.sleep(0.5)
    return first, others


def codes(answers: list[Future[tuple[int, bytes]]]) -> list[str]:
    return sorted(str(json.loads(answer.result()[1]).get("code", answer.result()[0])) for answer in answers)


def test_of_more_pictures_than_may_wait_the_surplus_is_told_to_come_back(serve, predictor):
    url = serve(max_queue=2)
    with ThreadPoolExecutor(8) as threads:
        first, others = send_while_it_works(threads, url, predictor, 5)
        predictor.answer()
        assert codes(first + others) == ["200"] * 3 + ["overloaded"] * 3


def test_who_has_waited_too_long_is_told_so_and_not_worked_for(serve, predictor):
    url = serve(queue_timeout_seconds=0.3)
    with ThreadPoolExecutor(8) as threads:
        first, others = send_while_it_works(threads, url, predictor, 3)
        predictor.answer(1)  # now all three are looked at, and one of them is begun
        assert predictor.begun.acquire(timeout=20)
        time.sleep(0.5)
        predictor.answer()
        assert codes(first + others) == ["200"] * 2 + ["overloaded"] * 2
    assert len(predictor.seen) == 2


def test_nothing_is_worked_on_for_callers_who_have_gone(serve, predictor):
    url = serve()
    body = multipart(FACE)
    head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: {MULTIPART}\r\nContent-Length: {len(body)}\r\n\r\n"
    with ThreadPoolExecutor(1) as threads:
        first = send(threads, url, 1)
        assert predictor.begun.acquire(timeout=20)
        gone = [connect(url) for _ in range(3)]
        for connection in gone:
            connection.sendall(head.encode() + body)
        predictor.answer(1)
        assert predictor.begun.acquire(timeout=20)  # of the first of the three
        for connection in gone:
            connection.close()
        time.sleep(0.1)  # more than is answered at a stretch
        predictor.answer()
        assert codes(first + send(threads, url, 1)) == ["200"] * 2
    assert len(predictor.seen) == 3


def test_what_is_refused_keeps_its_connection_and_has_the_one_shape(serve, predictor):
    url = serve(queue_timeout_seconds=1e-9)
    status, body = ask(url, FACE)
    assert (status, json.loads(body)["code"]) == (503, "overloaded")
    assert ask(f"{url}/health/live")[0] == 200
    assert b"dexpression_requests_waiting 0.0" in ask(f"{url}/metrics")[1]
    assert predictor.seen == []


def test_a_slow_sender_keeps_nobody_waiting(serve, predictor):
    predictor.answer()
    url = serve()
    slow = [connect(url) for _ in range(50)]
    try:
        for connection in slow:
            connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx")
        assert ask(url, FACE)[0] == 200
    finally:
        for connection in slow:
            connection.close()


def test_large_uploads_that_are_never_finished_do_not_fill_the_memory(serve, predictor):
    predictor.answer()
    url = serve(max_upload_bytes=100_000)
    held = [connect(url) for _ in range(40)]
    answers = []
    try:
        for connection in held:
            connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + bytes(90_000))
            connection.settimeout(0.2)
        for connection in held:
            with contextlib.suppress(OSError):  # it is waited for the rest of this one, or it is closed
                answers.append(connection.recv(4096))
        answers = [answer for answer in answers if answer]  # some are lost: who is told sends on, to nobody
        assert len(answers) > 5
        assert all(answer.startswith(b"HTTP/1.1 503 ") for answer in answers)
        assert ask(url, FACE)[0] == 200
    finally:
        for connection in held:
            connection.close()
    time.sleep(0.5)
    assert ask(url, bytes(90_000))[0] == 422  # there is room again


@pytest.mark.parametrize("hours", [-24, 24], ids=["back", "ahead"])
def test_a_clock_that_jumps_disturbs_no_request_that_was_sent_whole(serve, predictor, monkeypatch, hours):
    url, now = serve(), time.time
    with ThreadPoolExecutor(8) as threads:
        first, others = send_while_it_works(threads, url, predictor, 3)
        monkeypatch.setattr(time, "time", lambda: now() + hours * 3600)
        predictor.answer()
        assert codes(first + others + send(threads, url, 3)) == ["200"] * 7
