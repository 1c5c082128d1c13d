"""Callers that ask an HTTP server without pause, each its next question when its last one is answered.

One process and one thread, so that most of the machine is left to the server.
"""

from __future__ import annotations

import heapq
import re
import selectors
import socket
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle
from statistics import quantiles
from time import perf_counter

ANSWER = re.compile(rb"HTTP/1\.(\d) (\d+)")
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CLOSES = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
RETRY_AFTER = re.compile(rb"\r\nretry-after: *(\d+)", re.IGNORECASE)
READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
PATIENCE = 30.0  # seconds that the last answers may take
NO_ANSWER = 0  # in place of a status: the connection was closed, or patience ran out


@dataclass(frozen=True)
class Question:
    """A whole request, and what the body of its answer must contain."""

    request: bytes
    expected: bytes


@dataclass(frozen=True)
class Load:
    """What callers saw: good answers a second, milliseconds that those took, and all that was not good."""

    callers: int
    rate: float
    p50: float
    p99: float
    slowest: float  # of answers of any status
    wrong: int
    by_status: Counter[int]
    reconnects: int  # the server closed the connection, after an answer or without one


def ask_with_file(path: str, content: bytes, name: str) -> bytes:
    """A POST with one multipart part, `file`."""
    disposition = f'Content-Disposition: form-data; name="file"; filename="{name}"'
    body = b"--part\r\n%b\r\nContent-Type: image/jpeg\r\n\r\n%b\r\n--part--\r\n" % (disposition.encode(), content)
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=part\r\n"
    return b"%bContent-Length: %d\r\n\r\n%b" % (head.encode(), len(body), body)


def measure_load(port: int, questions: Sequence[Question], callers: int, seconds: float, warm_up: float = 1.0) -> Load:
    """Latencies and rate are of what is answered after the warm-up; wrong answers count from the first one on."""
    return _Crowd(port, questions).ask(callers, seconds, warm_up)


@dataclass
class _Caller:
    question: Question
    socket: socket.socket = field(init=False)
    began: float = 0.0
    unsent: memoryview = field(default_factory=lambda: memoryview(b""))
    received: bytes = b""
    watched: int = 0


class _Crowd:
    def __init__(self, port: int, questions: Sequence[Question]) -> None:
        self._address = ("127.0.0.1", port)
        self._questions = cycle(questions)
        self._selector = selectors.DefaultSelector()
        self._resting: list[tuple[float, int, _Caller]] = []  # told to come back later: when, and whom
        self._latencies: list[float] = []
        self._slowest, self._wrong, self._reconnects = 0.0, 0, 0
        self._by_status: Counter[int] = Counter()

    def ask(self, callers: int, seconds: float, warm_up: float) -> Load:
        self._start = perf_counter() + warm_up
        self._end = self._start + seconds
        crowd = [_Caller(next(self._questions)) for _ in range(callers)]
        for caller in crowd:
            self._connect(caller)
        while self._selector.get_map() and perf_counter() < self._end + PATIENCE:
            for key, events in self._selector.select(timeout=0.05):
                if events & WRITE:
                    self._send(key.data)
                if events & READ:
                    self._receive(key.data)
            while self._resting and self._resting[0][0] <= perf_counter():
                self._next(heapq.heappop(self._resting)[2])
        self._by_status[NO_ANSWER] += len(self._selector.get_map())
        for caller in crowd:
            caller.socket.close()
        self._selector.close()
        return self._load(callers, seconds)

    def _load(self, callers: int, seconds: float) -> Load:
        times = [1000 * latency for latency in self._latencies]
        cuts = quantiles(times, n=100) if len(times) > 1 else [float("nan")] * 99
        rate, slowest = len(times) / seconds, 1000 * self._slowest
        return Load(callers, rate, cuts[49], cuts[98], slowest, self._wrong, +self._by_status, self._reconnects)

    def _connect(self, caller: _Caller) -> None:
        """Anew, and ask: the question that was not answered, if there is one."""
        caller.socket = socket.socket()
        caller.socket.setblocking(False)
        caller.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        caller.socket.connect_ex(self._address)
        caller.watched = WRITE  # that it is connected
        self._selector.register(caller.socket, WRITE, caller)
        self._put(caller)

    def _put(self, caller: _Caller) -> None:
        caller.began = perf_counter()
        caller.unsent, caller.received = memoryview(caller.question.request), b""

    def _next(self, caller: _Caller) -> None:
        if perf_counter() >= self._end:
            self._drop(caller)
            return
        caller.question = next(self._questions)
        if caller.watched:
            self._put(caller)
            self._send(caller)
        else:
            self._connect(caller)

    def _drop(self, caller: _Caller) -> None:
        if caller.watched:
            self._selector.unregister(caller.socket)
            caller.socket.close()
            caller.watched = 0

    def _send(self, caller: _Caller) -> None:
        try:
            caller.unsent = caller.unsent[caller.socket.send(caller.unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            self._lose(caller)
            return
        wanted = READ | WRITE if caller.unsent else READ
        if caller.watched != wanted:
            self._selector.modify(caller.socket, wanted, caller)
            caller.watched = wanted

    def _receive(self, caller: _Caller) -> None:
        if not caller.watched:  # its connection broke while it was sending
            return
        try:
            chunk = caller.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        if not chunk:
            self._lose(caller)
            return
        caller.received += chunk
        head, separator, body = caller.received.partition(b"\r\n\r\n")
        if separator:
            length = LENGTH.search(head)
            assert length, f"these callers read answers with a Content-Length only, not {head!r}"
            if len(body) >= int(length[1]):
                self._finish(caller, head, body)

    def _lose(self, caller: _Caller) -> None:
        """The connection is gone before the answer: the same question goes through a new one."""
        self._by_status[NO_ANSWER] += 1
        self._reconnects += 1
        if self._by_status[NO_ANSWER] > 10_000:
            raise ConnectionError(f"Nobody answers on port {self._address[1]} any more.")
        self._drop(caller)
        if perf_counter() < self._end:
            self._connect(caller)

    def _finish(self, caller: _Caller, head: bytes, body: bytes) -> None:
        now = perf_counter()
        answer = ANSWER.match(head)
        assert answer, f"no HTTP answer: {head!r}"
        status = int(answer[2])
        self._slowest = max(self._slowest, now - caller.began)
        if status == 200:
            self._wrong += caller.question.expected not in body
        if now >= self._start:
            self._by_status[status] += 1
            if status == 200 and now <= self._end:
                self._latencies.append(now - caller.began)
        if caller.unsent or answer[1] == b"0" or CLOSES.search(head):
            self._reconnects += 1
            self._drop(caller)
        later = RETRY_AFTER.search(head)
        if later:
            heapq.heappush(self._resting, (now + int(later[1]), id(caller), caller))
        else:
            self._next(caller)
