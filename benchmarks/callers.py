"""Put an HTTP server under load: each caller sends its next request as soon as its last one is answered.

All callers run in one thread of one process, so that most of the machine is left for the server.
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

STATUS_LINE = re.compile(rb"HTTP/1\.(\d) (\d+)")
CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CONNECTION_CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
RETRY_AFTER = re.compile(rb"\r\nretry-after: *(\d+)", re.IGNORECASE)
READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
DRAIN_SECONDS = 30.0  # longest wait for the last answers, after the end of the measurement
NO_ANSWER = 0  # in place of a status: the connection was closed, or no answer came within DRAIN_SECONDS


@dataclass(frozen=True)
class Request:
    """A complete HTTP request, and the bytes that the body of a correct answer contains."""

    content: bytes
    expected: bytes


@dataclass(frozen=True)
class Load:
    """The result of one measurement: the rate and the latency of answers with status 200, and all failures."""

    callers: int
    rate: float  # answers with status 200 a second
    p50: float  # milliseconds, as are the next two
    p99: float
    slowest: float  # of answers of any status
    wrong: int  # answers with status 200 and another body than expected
    by_status: Counter[int]
    reconnects: int  # connections that the server closed, after an answer or without one


def build_upload(path: str, content: bytes, name: str) -> bytes:
    """Build a POST request with one multipart part, `file`."""
    disposition = f'Content-Disposition: form-data; name="file"; filename="{name}"'
    body = b"--part\r\n%b\r\nContent-Type: image/jpeg\r\n\r\n%b\r\n--part--\r\n" % (disposition.encode(), content)
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=part\r\n"
    return b"%bContent-Length: %d\r\n\r\n%b" % (head.encode(), len(body), body)


def measure_load(port: int, requests: Sequence[Request], callers: int, seconds: float, warm_up: float = 1.0) -> Load:
    """Measure a server for `seconds` after `warm_up` seconds; wrong answers count during the warm-up too."""
    return _LoadTest(port, requests).run(callers, seconds, warm_up)


@dataclass
class _Caller:
    request: Request
    socket: socket.socket = field(init=False)
    sent_at: float = 0.0
    unsent: memoryview = field(default_factory=lambda: memoryview(b""))
    received: bytes = b""
    events: int = 0  # that the selector waits for; 0 while there is no connection


class _LoadTest:
    def __init__(self, port: int, requests: Sequence[Request]) -> None:
        self._address = ("127.0.0.1", port)
        self._requests = cycle(requests)
        self._selector = selectors.DefaultSelector()
        self._pausing: list[tuple[float, int, _Caller]] = []  # until the time of Retry-After; id as a tie-break
        self._latencies: list[float] = []
        self._slowest, self._wrong, self._reconnects = 0.0, 0, 0
        self._by_status: Counter[int] = Counter()

    def run(self, callers: int, seconds: float, warm_up: float) -> Load:
        self._start = perf_counter() + warm_up
        self._end = self._start + seconds
        all_callers = [_Caller(next(self._requests)) for _ in range(callers)]
        for caller in all_callers:
            self._connect(caller)
        while self._selector.get_map() and perf_counter() < self._end + DRAIN_SECONDS:
            for key, events in self._selector.select(timeout=0.05):
                if events & WRITE:
                    self._send(key.data)
                if events & READ:
                    self._receive(key.data)
            while self._pausing and self._pausing[0][0] <= perf_counter():
                self._send_next(heapq.heappop(self._pausing)[2])
        self._by_status[NO_ANSWER] += len(self._selector.get_map())
        for caller in all_callers:
            caller.socket.close()
        self._selector.close()
        return self._load(callers, seconds)

    def _load(self, callers: int, seconds: float) -> Load:
        times = [1000 * latency for latency in self._latencies]
        cuts = quantiles(times, n=100) if len(times) > 1 else [float("nan")] * 99
        rate, slowest = len(times) / seconds, 1000 * self._slowest
        return Load(callers, rate, cuts[49], cuts[98], slowest, self._wrong, +self._by_status, self._reconnects)

    def _connect(self, caller: _Caller) -> None:
        """Open a new connection for the caller's current request."""
        caller.socket = socket.socket()
        caller.socket.setblocking(False)
        caller.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        caller.socket.connect_ex(self._address)
        caller.events = WRITE  # the socket is writable once it is connected
        self._selector.register(caller.socket, WRITE, caller)
        self._prepare(caller)

    def _prepare(self, caller: _Caller) -> None:
        caller.sent_at = perf_counter()
        caller.unsent, caller.received = memoryview(caller.request.content), b""

    def _send_next(self, caller: _Caller) -> None:
        if perf_counter() >= self._end:
            self._disconnect(caller)
            return
        caller.request = next(self._requests)
        if caller.events:
            self._prepare(caller)
            self._send(caller)
        else:
            self._connect(caller)

    def _disconnect(self, caller: _Caller) -> None:
        if caller.events:
            self._selector.unregister(caller.socket)
            caller.socket.close()
            caller.events = 0

    def _send(self, caller: _Caller) -> None:
        try:
            caller.unsent = caller.unsent[caller.socket.send(caller.unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            self._reconnect(caller)
            return
        events = READ | WRITE if caller.unsent else READ
        if caller.events != events:
            self._selector.modify(caller.socket, events, caller)
            caller.events = events

    def _receive(self, caller: _Caller) -> None:
        if not caller.events:  # the connection was lost in `_send`
            return
        try:
            chunk = caller.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        if not chunk:
            self._reconnect(caller)
            return
        caller.received += chunk
        head, separator, body = caller.received.partition(b"\r\n\r\n")
        if separator:
            length = CONTENT_LENGTH.search(head)
            assert length, f"only answers with a Content-Length can be read, not {head!r}"
            if len(body) >= int(length[1]):
                self._handle_answer(caller, head, body)

    def _reconnect(self, caller: _Caller) -> None:
        """Send the same request through a new connection, after the last one was closed without an answer."""
        self._by_status[NO_ANSWER] += 1
        self._reconnects += 1
        if self._by_status[NO_ANSWER] > 10_000:
            raise ConnectionError(f"The server on port {self._address[1]} no longer answers.")
        self._disconnect(caller)
        if perf_counter() < self._end:
            self._connect(caller)

    def _handle_answer(self, caller: _Caller, head: bytes, body: bytes) -> None:
        now = perf_counter()
        status_line = STATUS_LINE.match(head)
        assert status_line, f"not an HTTP answer: {head!r}"
        status = int(status_line[2])
        self._slowest = max(self._slowest, now - caller.sent_at)
        if status == 200:
            self._wrong += caller.request.expected not in body
        if now >= self._start:
            self._by_status[status] += 1
            if status == 200 and now <= self._end:
                self._latencies.append(now - caller.sent_at)
        if caller.unsent or status_line[1] == b"0" or CONNECTION_CLOSE.search(head):
            self._reconnects += 1
            self._disconnect(caller)
        retry_after = RETRY_AFTER.search(head)
        if retry_after:
            heapq.heappush(self._pausing, (now + int(retry_after[1]), id(caller), caller))
        else:
            self._send_next(caller)
