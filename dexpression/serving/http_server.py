"""The HTTP server of one worker: waitress's event loop, which calls the Flask application itself.

waitress reads a complete request before it passes it on, so a slow sender blocks no other. Its threads are not used:
they wake each other several times per request and compete for the interpreter, which cost as much time as the network.
One process per core with one request at a time answers more requests, and each process holds at most one decoded
picture.
"""

from __future__ import annotations

import socket
import sys
import time
from collections import deque
from collections.abc import MutableSequence
from http import HTTPStatus
from wsgiref.types import WSGIApplication

import waitress
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.task import ErrorTask, WSGITask

from dexpression.settings import Settings
from dexpression.web.errors import Overloaded, RequestError
from dexpression.web.metrics import WAITING
from dexpression.web.problems import encode_problem, error_problem, http_problem, new_request_id
from dexpression.web.protection import ALWAYS
from dexpression.web.records import NO_ROUTE, record_request
from dexpression.web.service import Service

MAX_CONNECTIONS = 1_000  # open at once, if the system allows a process as many
RESERVED_FDS = 64  # file descriptors that a process needs besides; it has about 30 open
MAX_BUFFERED_UPLOADS = 16  # of the largest size, in memory at once; more are refused
SMALL_BODY_BYTES = 65_536  # bodies up to this size are read even then
KEEPALIVE_DRAIN_SECONDS = 1.0  # that a stop keeps idle connections open, so that a request on its way is answered
ACCEPT_RETRY_SECONDS = 0.02  # after which a worker accepts a connection although another worker has fewer
MAX_BATCH_SECONDS = 0.01  # of answering between two polls of the connections, whose cost grows with their number


class HttpServer:
    """Serves on a socket that other workers share: the worker with the fewest connections accepts the next one."""

    def __init__(
        self,
        app: WSGIApplication,
        listener: socket.socket,
        settings: Settings,
        loads: MutableSequence[int] | None = None,
        number: int = 0,
    ) -> None:
        self._queue = RequestQueue(settings.max_queue, settings.queue_timeout_seconds)
        self._server = waitress.create_server(
            app,
            sockets=[listener],
            _dispatcher=self._queue,
            connection_limit=_max_connections(),
            channel_request_lookahead=1,  # lets waitress notice that a waiting client has disconnected
            asyncore_use_poll=sys.platform != "win32",  # select takes no file descriptor above 1,023
            ident="dexpression",
            # A body that is a little too large is read to its end, so that the client reads the answer.
            max_request_body_size=2 * settings.max_upload_bytes,
            # Above these, waitress would write to disk or wait for another thread.
            inbuf_overflow=sys.maxsize,
            outbuf_overflow=sys.maxsize,
            outbuf_high_watermark=sys.maxsize,
        )
        self._server.channel_class = ProblemChannel
        self._server.adj.buffered_bytes = 0
        self._server.adj.max_buffered_bytes = MAX_BUFFERED_UPLOADS * settings.max_upload_bytes
        self._server.stopping = False
        self._server.cors_origins = settings.cors_origins.split()
        self._server.pull_trigger = lambda: None  # it would wake the loop, which is its caller here
        self._server.readable = self._may_accept
        self._server.handle_accept = self._accept_all
        self._loads, self._number, self._next_accept = loads or [0], number, 0.0
        self._graceful_timeout = settings.graceful_timeout_seconds

    def run(self, service: Service) -> None:
        """Serve until `stop` is called; then finish open requests, within the graceful timeout."""
        while not self._server.stopping:
            self._poll_and_answer(0.1)
        service.stopping = True
        self._close_listener()
        stopped = time.monotonic()
        while self._server.active_channels and (waited := time.monotonic() - stopped) < self._graceful_timeout:
            self._poll_and_answer(0.05)
            if waited > KEEPALIVE_DRAIN_SECONDS:  # after a poll, which reads requests that arrived meanwhile
                self._close_idle_connections()
        self._server.asyncore.close_all(self._server._map)

    def stop(self) -> None:
        """Stop the server at its next poll, within 0.1 s; may be called from any thread or from a signal handler."""
        self._server.stopping = True

    def _poll_and_answer(self, idle_seconds: float) -> None:
        """Poll the connections, for `idle_seconds` if no request waits; then answer requests for a short time."""
        server = self._server
        seconds = 0.0 if self._queue else idle_seconds
        server.asyncore.loop(timeout=seconds, map=server._map, use_poll=server.adj.asyncore_use_poll, count=1)
        end = time.monotonic() + MAX_BATCH_SECONDS
        while self._queue and time.monotonic() < end:
            self._queue.answer_next()

    def _may_accept(self) -> bool:
        """Whether this worker should accept a connection now: without this rule, the busiest one would get the most.

        A worker with more connections than another accepts one only now and then, in case the other one hangs.
        """
        self._loads[self._number] = len(self._server.active_channels)
        now = time.monotonic()
        if self._loads[self._number] > min(self._loads) and now < self._next_accept:
            return False
        self._next_accept = now + ACCEPT_RETRY_SECONDS
        accepts: bool = type(self._server).readable(self._server)
        return accepts

    def _accept_all(self) -> None:
        """Accept waiting connections while no other worker has fewer; waitress accepts only one at each poll."""
        accepted = True
        while accepted and self._may_accept():
            accepted = self._accept_one()

    def _accept_one(self) -> bool:
        connections = len(self._server.active_channels)
        type(self._server).handle_accept(self._server)
        return len(self._server.active_channels) > connections

    def _close_listener(self) -> None:
        while self._accept_one():  # connections in the accept queue are still answered
            pass
        self._server.del_channel()
        self._server.socket.close()

    def _close_idle_connections(self) -> None:
        for channel in list(self._server.active_channels.values()):
            if not (channel.requests or channel.request or channel.total_outbufs_len):
                channel.will_close = True


class BoundedParser(HTTPRequestParser):
    """Parses a request, and refuses a large one while all requests together fill the server's buffers."""

    completed: bool
    counted = 0  # bytes of this request
    is_cut = False  # whether the rest of this request is not read

    def received(self, data: bytes) -> int:
        consumed: int = super().received(data)
        self.counted += consumed
        self.adj.buffered_bytes += consumed
        is_full = self.adj.buffered_bytes > self.adj.max_buffered_bytes
        if is_full and self.body_bytes_received > SMALL_BODY_BYTES and not self.completed:
            self.error = Overloaded("Too many large requests are sent at the same time. Retry in a second.")
            self.completed = self.is_cut = True
        return consumed

    def __del__(self) -> None:
        self.adj.buffered_bytes -= self.counted


class RequestQueue:
    """The queue of complete requests, in place of waitress's threads; answers one at a time, in order.

    At most `limit` pictures wait, and none longer than `timeout` seconds. Refusals, and requests without a picture,
    do not wait behind pictures.
    """

    def __init__(self, limit: int, timeout: float) -> None:
        self._limit = limit
        self._timeout = timeout
        self._quick: deque[HTTPChannel] = deque()
        self._waiting: deque[tuple[float, HTTPChannel]] = deque()

    def __bool__(self) -> bool:
        return bool(self._quick or self._waiting)

    def add_task(self, channel: HTTPChannel) -> None:
        """Queue the request of a channel; waitress calls this as the method of its dispatcher."""
        request = channel.requests[0]
        if request.error is None and request.command == "POST":
            if len(self._waiting) < self._limit:
                self._waiting.append((time.monotonic(), channel))
                WAITING.set(len(self._waiting))
                return
            request.error = Overloaded("The queue is full. Retry in a second.")
        self._quick.append(channel)

    def answer_next(self) -> None:
        """Answer the next request, or refuse it if it has waited too long."""
        if self._quick:
            channel = self._quick.popleft()
        else:
            since, channel = self._waiting.popleft()
            WAITING.set(len(self._waiting))
            if time.monotonic() - since > self._timeout:
                text = f"The request waited {self._timeout:g} s in the queue and was dropped. Retry in a second."
                channel.requests[0].error = Overloaded(text)
        channel.service()
        if channel.connected and channel.writable():
            channel.handle_write()


class ClosingTask(WSGITask):
    """Answers a request by the app; while the server stops, the answer closes its connection."""

    def build_response_header(self) -> bytes:
        if self.channel.server.stopping and not self.close_on_finish:
            self.set_close_on_finish()
        header: bytes = super().build_response_header()
        return header


class ProblemTask(ErrorTask):
    """Answers a request that never reaches the app (not HTTP, too large, overloaded) with a problem document."""

    def execute(self) -> None:
        error, request_id = self.request.error, new_request_id()
        if isinstance(error, RequestError):
            members = error_problem(error, request_id)
        else:
            members = http_problem(error.code, error.reason, error.body, request_id)
        body, headers = encode_problem(members)
        headers |= ALWAYS
        if self.request.is_cut or not isinstance(error, RequestError):  # the following bytes are not a request
            self.set_close_on_finish()
        if "*" in self.channel.server.cors_origins:
            headers["Access-Control-Allow-Origin"] = "*"
        status: int = members["status"]
        record_request(NO_ROUTE, getattr(self.request, "command", ""), status, 0.0, request_id)
        self.status = f"{status} {HTTPStatus(status).phrase}"
        self.response_headers += headers.items()
        self.content_length = len(body)
        self.write(body)


class ProblemChannel(HTTPChannel):
    """A connection of waitress that uses BoundedParser, ClosingTask and ProblemTask."""

    parser_class = BoundedParser
    task_class = ClosingTask
    error_task_class = ProblemTask


def _max_connections() -> int:
    """The number of connections for which there are file descriptors; the loop would spin on one more."""
    if sys.platform == "win32":
        return MAX_CONNECTIONS
    import resource

    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if files == resource.RLIM_INFINITY else min(MAX_CONNECTIONS, max(1, files - RESERVED_FDS))
