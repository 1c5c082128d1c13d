"""The order in which one server's requests are answered."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from dexpression.serving.request_queue import Kind, RequestQueue, kind_of

NAMES = ["GET", "POST", "large POST"]
ALL = (Kind.OTHER, Kind.SMALL, Kind.LARGE)


def request(name: str) -> SimpleNamespace:
    """A channel with one complete request."""
    parsed = SimpleNamespace(error=None, command=name.removeprefix("large "), is_large=name.startswith("large"))
    return SimpleNamespace(requests=[parsed], requested_at=time.monotonic())


def answer_all(queue: RequestQueue, seconds: dict[Kind, float], count: int) -> list[Kind]:
    """Take `count` requests, as if each took the seconds of its kind; returns their kinds in order."""
    order = []
    for _ in range(count):
        order.append(kind_of(queue.take(ALL)))
        queue.add_time(order[-1], seconds[order[-1]])
    return order


def test_all_kinds_of_requests_get_the_same_time():
    queue, seconds = RequestQueue(limit=1000, timeout=60), {Kind.OTHER: 1.0, Kind.SMALL: 2.0, Kind.LARGE: 10.0}
    for _ in range(300):
        for name in NAMES:
            queue.add_task(request(name))
    order = answer_all(queue, seconds, 160)
    assert order.count(Kind.OTHER) == pytest.approx(100, abs=11)
    assert order.count(Kind.SMALL) == pytest.approx(50, abs=6)
    assert order.count(Kind.LARGE) == pytest.approx(10, abs=1)


def test_a_kind_that_had_nothing_to_do_gets_no_time_for_that_later():
    queue, seconds = RequestQueue(limit=1000, timeout=60), dict.fromkeys(ALL, 1.0)
    for _ in range(100):
        queue.add_task(request("POST"))
    answer_all(queue, seconds, 50)
    for _ in range(100):
        queue.add_task(request("GET"))
    assert answer_all(queue, seconds, 20).count(Kind.OTHER) == pytest.approx(10, abs=1)


@pytest.mark.parametrize(("names", "limit"), [(["GET"] * 5, 3), (["POST", "large POST"] * 3, 3)])
def test_each_queue_is_bounded_and_a_refusal_does_not_wait(names, limit):
    queue = RequestQueue(limit, timeout=60)
    channels = [request(name) for name in names]
    for channel in channels:
        queue.add_task(channel)
    assert queue.take(ALL).requests[0].error.code == "overloaded"
    assert [channel.requests[0].error is None for channel in channels] == [True] * 3 + [False] * (len(names) - 3)


@pytest.mark.parametrize("name", NAMES)
def test_requests_that_wait_too_long_are_refused_even_while_none_may_be_taken(name, monkeypatch):
    queue = RequestQueue(limit=10, timeout=60)
    queue.add_task(request(name))
    now = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: now() + 61)
    queue.refuse_late()
    assert queue.take(()).requests[0].error.code == "overloaded"
    assert queue.take(ALL) is None


def test_a_request_that_waited_too_long_behind_a_newer_one_is_refused():
    queue = RequestQueue(limit=10, timeout=60)
    newer, older = request("POST"), request("POST")
    older.requested_at -= 61
    for channel in (newer, older):
        queue.add_task(channel)
    queue.refuse_late()
    assert queue.take(ALL).requests[0].error is None
    assert queue.take(ALL).requests[0].error.code == "overloaded"


def test_kinds_that_may_not_be_taken_stay_in_the_queue():
    queue = RequestQueue(limit=10, timeout=60)
    queue.add_task(request("large POST"))
    assert queue.take((Kind.OTHER, Kind.SMALL)) is None
    assert kind_of(queue.take(ALL)) is Kind.LARGE
