"""The order in which one server's requests are answered."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from dexpression.serving.request_queue import RequestQueue


def request(command: str) -> SimpleNamespace:
    """A channel with one complete request."""
    return SimpleNamespace(requests=[SimpleNamespace(error=None, command=command)], read_at=time.monotonic())


def answer_all(queue: RequestQueue, seconds: dict[str, float], count: int) -> list[str]:
    """Take `count` requests, as if each took the seconds of its method; returns their methods in order."""
    order = []
    for _ in range(count):
        channel, waiting = queue.next(with_pictures=True)
        order.append(channel.requests[0].command)
        waiting.spent += seconds[order[-1]]
    return order


@pytest.mark.parametrize(("seconds", "share"), [({"POST": 1.0, "GET": 1.0}, 0.5), ({"POST": 3.0, "GET": 1.0}, 0.25)])
def test_pictures_and_other_requests_get_the_same_time(seconds, share):
    queue = RequestQueue(limit=1000, timeout=60)
    for _ in range(400):
        queue.add_task(request("GET"))
        queue.add_task(request("POST"))
    order = answer_all(queue, seconds, 200)
    assert order.count("POST") == pytest.approx(200 * share, abs=2)


def test_a_kind_that_had_nothing_to_do_gets_no_time_for_that_later():
    queue = RequestQueue(limit=1000, timeout=60)
    for _ in range(100):
        queue.add_task(request("POST"))
    answer_all(queue, {"POST": 1.0}, 50)
    for _ in range(100):
        queue.add_task(request("GET"))
    order = answer_all(queue, {"POST": 1.0, "GET": 1.0}, 20)
    assert order.count("GET") == pytest.approx(10, abs=1)


@pytest.mark.parametrize("command", ["POST", "GET"])
def test_each_queue_is_bounded_and_a_refusal_does_not_wait(command):
    queue = RequestQueue(limit=3, timeout=60)
    channels = [request(command) for _ in range(5)]
    for channel in channels:
        queue.add_task(channel)
    first, _ = queue.next(with_pictures=True)
    assert first.requests[0].error.code == "overloaded"
    assert [channel.requests[0].error is None for channel in channels] == [True] * 3 + [False] * 2


@pytest.mark.parametrize("command", ["POST", "GET"])
def test_requests_that_wait_too_long_are_refused_even_while_no_picture_may_be_taken(command, monkeypatch):
    queue = RequestQueue(limit=10, timeout=60)
    queue.add_task(request(command))
    now = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: now() + 61)
    queue.refuse_late()
    channel, _ = queue.next(with_pictures=False)
    assert channel.requests[0].error.code == "overloaded"
    assert queue.next(with_pictures=True) is None
