"""How much is worked on at once, and what the surplus is told."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import MULTIPART, multipart
from test_web import FACE, StubPredictor, assert_refused

from dexpression.errors import Overloaded
from dexpression.reading import Reading
from dexpression.settings import Settings
from dexpression.web import create_app
from dexpression.web.service import Service
from dexpression.web.work import WorkQueue


class SlowPredictor(StubPredictor):
    """Answers when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.released = threading.Semaphore(0), threading.Event()

    def predict(self, *arguments: object, **options: object) -> Reading:
        self.begun.release()
        self.released.wait(20)
        return super().predict(*arguments, **options)


def test_no_more_work_is_done_at_once_than_there_are_slots():
    queue, most, working, lock = WorkQueue(3, 100, 20), 0, 0, threading.Lock()

    def take(_: int) -> None:
        nonlocal most, working
        with queue.turn():
            with lock:
                working += 1
                most = max(most, working)
            threading.Event().wait(0.002)
            with lock:
                working -= 1

    with ThreadPoolExecutor(20) as threads:
        list(threads.map(take, range(60)))
    assert most == 3


def test_a_failure_gives_its_turn_back():
    queue = WorkQueue(1, 1, 0.1)
    for _ in range(5):
        with pytest.raises(ZeroDivisionError), queue.turn():
            raise ZeroDivisionError
    with queue.turn():
        pass


def test_who_waits_too_long_is_told_so_and_leaves_its_place():
    queue = WorkQueue(1, 1, 0.05)
    with queue.turn():
        for _ in range(3):
            with pytest.raises(Overloaded, match=r"0\.05 seconds"), queue.turn():
                pass


def test_a_surplus_is_told_when_to_come_back_while_health_answers():
    predictor = SlowPredictor()
    app = create_app(Service(predictor), Settings(threads=1, queue=1))

    def send() -> object:
        return app.test_client().post("/", data=multipart(FACE), content_type=MULTIPART)

    with ThreadPoolExecutor(2) as threads:
        answers = [threads.submit(send)]
        predictor.begun.acquire(timeout=20)
        answers.append(threads.submit(send))
        while b"dexpression_requests_waiting 1.0" not in app.test_client().get("/metrics").data:
            pass
        refused = send()
        assert_refused(refused, 503, "overloaded")
        assert refused.headers["Retry-After"] == "1"
        assert app.test_client().get("/health/live").status_code == 200
        predictor.released.set()
        assert [answer.result().status_code for answer in answers] == [200, 200]
