"""The comparison under faults: what its cells say, and that its clients count lost requests."""

from __future__ import annotations

import socket
import threading
from collections import Counter

import pytest

from benchmarks.callers import Load
from benchmarks.clients import LIMIT, NO_ANSWER, Answer, SteadyCallers, send
from benchmarks.faults import FAULTS, describe, table
from benchmarks.results import MAIN_COUNT, OURS, Results
from benchmarks.servers import SAME_APP

ANSWER = b"HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture
def port():
    """A server that answers two requests through one connection, closes it without answering the third, and ends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer_twice, args=(listener,), daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(60)


def answer_twice(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        for answer in (ANSWER, ANSWER, b""):
            received = b""
            while not received.endswith(b"end"):
                chunk = connection.recv(4096)
                if not chunk:
                    return
                received += chunk
            if not answer:
                listener.close()
            connection.sendall(answer)


def test_a_cell_names_the_slowest_answer_and_what_was_not_answered():
    assert describe([Answer(200, 0.25), Answer(200, 0.5)]) == "0.50 s"
    assert describe([Answer(200, 0.25), Answer(503, 0.5)]) == "0.50 s, 1 of 2 refused"
    assert describe([Answer(503, 1.0), Answer(NO_ANSWER, LIMIT)]) == "> 30 s, 1 of 2 not answered, 1 of 2 refused"


def test_servers_are_columns_and_faults_are_rows():
    text = table([OURS, f"{SAME_APP}, granian"], {"SIGTERM": ["0 lost", "9 lost"]})
    assert text == "| fault | DeXpression | granian |\n|---|---|---|\n| SIGTERM | 0 lost | 9 lost |"
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)


def test_a_request_whose_connection_is_closed_without_an_answer_is_lost(port):
    callers = SteadyCallers(port, b"end", "text/plain", count=1)
    callers.join()
    assert (callers.answered, callers.lost) == (2, 1)


def test_an_answer_has_its_status_and_hint_and_a_refused_connection_has_none(port):
    answer = send(port, b"POST / HTTP/1.1\r\n\r\nend")
    assert (answer.status, answer.has_retry_after) == (503, True)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        free = listener.getsockname()[1]
    assert send(free, b"end").status == NO_ANSWER


def test_our_app_in_another_server_is_not_the_best_peer():
    results = Results()
    for name, rate in ((OURS, 9.0), (f"{SAME_APP}, granian", 8.0), ("FastAPI", 3.0)):
        results.loads[name, MAIN_COUNT].append(Load(MAIN_COUNT, rate, 1, 1, 1, 0, Counter(), 0))
    assert results.best_peer() == "FastAPI"
