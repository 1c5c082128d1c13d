"""Clients that measure how long one request waits, and clients that misbehave: slow, idle or vanished ones."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse

LIMIT = 30.0  # seconds that a client waits for an answer
SETTLE_SECONDS = 1.0  # in which a server notices new connections and their bytes
TRICKLE_SECONDS = 0.2  # from one byte of a slow sender to its next
NO_ANSWER = 0  # in place of a status: the connection was closed or refused, or no answer came within LIMIT


@dataclass(frozen=True)
class Answer:
    """The status of an answer, the seconds until it was complete, and whether it says when to try again."""

    status: int
    seconds: float
    has_retry_after: bool = False


def send(port: int, content: bytes) -> Answer:
    """Send a complete request through a new connection, and wait for the answer, at most `LIMIT` seconds."""
    start = time.perf_counter()
    try:
        with socket.create_connection(("127.0.0.1", port), LIMIT) as connection:
            connection.sendall(content)
            with closing(HTTPResponse(connection)) as response:
                response.begin()
                response.read()
                status, has_retry_after = response.status, response.getheader("Retry-After") is not None
    except (OSError, HTTPException):
        status, has_retry_after = NO_ANSWER, False
    return Answer(status, time.perf_counter() - start, has_retry_after)


def send_together(port: int, content: bytes, count: int) -> list[Answer]:
    """Send the same request from `count` clients at the same time."""
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(send, [port] * count, [content] * count))


@contextmanager
def idle_clients(port: int, content: bytes, count: int) -> Iterator[None]:
    """Keep `count` connections open that send `content`, at most a few kilobytes, and never read an answer."""
    with ExitStack() as stack:
        connections = [stack.enter_context(socket.socket()) for _ in range(count)]
        for connection in connections:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # answers fill it at once
            connection.setblocking(False)  # a server that accepts no more connections must not stop this client
            connection.connect_ex(("127.0.0.1", port))
        time.sleep(SETTLE_SECONDS)
        for connection in connections:
            with suppress(OSError):
                connection.send(content)
        time.sleep(SETTLE_SECONDS)
        yield


@contextmanager
def slow_senders(port: int, head: bytes, count: int) -> Iterator[None]:
    """Keep `count` connections open that send `head`, and then one byte after the other without an end."""
    done = threading.Event()
    threads = [threading.Thread(target=_trickle, args=(port, head, done), daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    time.sleep(SETTLE_SECONDS)
    try:
        yield
    finally:
        done.set()


def _trickle(port: int, head: bytes, done: threading.Event) -> None:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), LIMIT) as connection:
        connection.sendall(head)
        while not done.wait(TRICKLE_SECONDS):
            connection.sendall(b"x")


def vanish(port: int, content: bytes, count: int) -> None:
    """Send `content` through `count` connections, one after the other, and close each without reading an answer."""
    for _ in range(count):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), LIMIT) as connection:
            connection.sendall(content)


class SteadyCallers:
    """Callers that each send a request as soon as the last one is answered, until the server refuses connections."""

    def __init__(self, port: int, body: bytes, content_type: str, count: int) -> None:
        self.answered = self.lost = 0  # the threads add to them under the lock
        self._lock = threading.Lock()
        self._request = (port, body, {"Content-Type": content_type})
        self._threads = [threading.Thread(target=self._call, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Wait until the server refuses the connections of all callers, or `LIMIT` seconds each."""
        for thread in self._threads:
            thread.join(LIMIT)

    def _call(self) -> None:
        port, body, headers = self._request
        with closing(HTTPConnection("127.0.0.1", port, timeout=LIMIT)) as connection:
            connection.auto_open = False
            while self._is_connected(connection):
                answered = False
                with suppress(OSError, HTTPException):
                    connection.request("POST", "/", body, headers)
                    answered = connection.getresponse().read() != b""
                if not answered:
                    connection.close()
                with self._lock:
                    self.answered += answered
                    self.lost += not answered

    @staticmethod
    def _is_connected(connection: HTTPConnection) -> bool:
        """Connect again after a close; a refused connection loses no request."""
        with suppress(OSError):
            if connection.sock is None:
                connection.connect()
            return True
        return False
