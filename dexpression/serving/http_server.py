"""HTTP for one process: waitress's event loop, and the app called by that loop itself.

waitress reads whole requests before it hands them on, so a slow sender keeps nobody waiting; but its threads would wake
each other several times a request and fight over the interpreter, which cost as much as the network. One request at a
time and as many processes as cores answer more, and a process never holds more than one decoded picture.
"""

from __future__ import annotations

import socket
import sys
import time
from collections import deque
from collections.abc import MutableSequence
from http import HTTPStatus

import waitress
from flask import Flask
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.task import ErrorTask, WSGITask

from dexpression.errors import Overloaded, RequestError
from dexpression.settings import Settings
from dexpression.web.metrics import WAITING
from dexpression.web.problems import CONTENT_TYPE, REQUEST_ID, http_problem, new_request_id, problem_body
from dexpression.web.protection import ALWAYS
from dexpression.web.records import NO_ROUTE, record_request
from dexpression.web.service import Service

CONNECTIONS = 1_000  # held open at once, where the system allows a process as many
OWN_FILES = 64  # that a process has open besides; it has about 30
HELD_UPLOADS = 16  # of the largest size, in memory at once; who sends more is told to come again
SMALL = 65_536  # bytes of a request that is read all the same, as those for health are
LINGER = 1.0  # seconds that a stop leaves idle connections open, so that who is about to ask is told to go elsewhere
SECOND_LOOK = 0.02  # seconds after which a worker takes a caller that those with fewer have left
AT_A_STRETCH = 0.01  # seconds of work between two looks at the connections, which cost the more the more there are


class HttpServer:
    """On a socket that other workers share: who has the fewest callers takes the next one."""

    def __init__(
        self,
        app: Flask,
        listener: socket.socket,
        settings: Settings,
        loads: MutableSequence[int] | None = None,
        number: int = 0,
    ) -> None:
        self._queue = RequestQueue(settings.queue, settings.patience_seconds)
        self._server = waitress.create_server(
            app,
            sockets=[listener],
            _dispatcher=self._queue,
            connection_limit=_affordable_connections(),
            channel_request_lookahead=1,  # or it would not be seen that who waits has gone
            asyncore_use_poll=sys.platform != "win32",  # select takes no file number above 1,023
            ident="dexpression",
            # What is somewhat too large is read to its end, so that a client that still sends gets the answer.
            max_request_body_size=2 * settings.max_upload_bytes,
            # Above these waitress would write to disk, or wait for another thread.
            inbuf_overflow=sys.maxsize,
            outbuf_overflow=sys.maxsize,
            outbuf_high_watermark=sys.maxsize,
        )
        self._server.channel_class = ProblemChannel
        self._server.adj.held, self._server.adj.may_hold = 0, HELD_UPLOADS * settings.max_upload_bytes
        self._server.stopping = False
        self._server.origins = settings.origins.split()
        self._server.pull_trigger = lambda: None  # it would wake the loop, which is awake: it called who calls this
        self._server.readable = self._may_accept
        self._server.handle_accept = self._accept
        self._loads, self._number, self._next_look = loads or [0], number, 0.0
        self._seconds = settings.stop_seconds

    def run(self, service: Service) -> None:
        """Until `stop`; then answer what was begun, for as long as the settings say."""
        while not self._server.stopping:
            self._turn(0.1)
        service.stopping = True
        self._stop_listening()
        began = time.monotonic()
        while self._server.active_channels and (waited := time.monotonic() - began) < self._seconds:
            self._turn(0.05)
            if waited > LINGER:  # only now: this process may have been kept from looking at what came
                self._close_idle()
        self._server.asyncore.close_all(self._server._map)

    def stop(self) -> None:
        """From any thread, or a signal."""
        self._server.stopping = True
        self._server.trigger.pull_trigger()

    def _turn(self, idle: float) -> None:
        """Look at the connections, for `idle` seconds where nothing waits for an answer, then answer for a while."""
        server = self._server
        seconds = 0.0 if self._queue else idle
        server.asyncore.loop(timeout=seconds, map=server._map, use_poll=server.adj.asyncore_use_poll, count=1)
        end = time.monotonic() + AT_A_STRETCH
        while self._queue and time.monotonic() < end:
            self._queue.serve_next()

    def _may_accept(self) -> bool:
        """The kernel would give most callers to the worker that was awake already; the others would have little to do.

        Who has more than another looks every so often only, in case the other one hangs.
        """
        self._loads[self._number] = len(self._server.active_channels)
        now = time.monotonic()
        if self._loads[self._number] > min(self._loads) and now < self._next_look:
            return False
        self._next_look = now + SECOND_LOOK
        accepts: bool = type(self._server).readable(self._server)
        return accepts

    def _accept(self) -> None:
        """Everyone who has called, as long as others have no fewer: waitress takes one each time it looks."""
        taken = True
        while taken and self._may_accept():
            taken = self._take_caller()

    def _take_caller(self) -> bool:
        callers = len(self._server.active_channels)
        type(self._server).handle_accept(self._server)
        return len(self._server.active_channels) > callers

    def _stop_listening(self) -> None:
        while self._take_caller():  # who has called already is not turned away
            pass
        self._server.del_channel()
        self._server.socket.close()

    def _close_idle(self) -> None:
        for channel in list(self._server.active_channels.values()):
            if not (channel.requests or channel.request or channel.total_outbufs_len):
                channel.will_close = True


class BoundedParser(HTTPRequestParser):
    """Reads a request, as long as all of them together do not hold more than the server may."""

    completed: bool
    counted = 0  # bytes of this one
    is_cut = False

    def received(self, data: bytes) -> int:
        consumed: int = super().received(data)
        self.counted += consumed
        self.adj.held += consumed
        if self.adj.held > self.adj.may_hold and self.body_bytes_received > SMALL and not self.completed:
            self.error = Overloaded("Too many large requests are sent at once. Send this one again in a second.")
            self.completed = self.is_cut = True
        return consumed

    def __del__(self) -> None:
        self.adj.held -= self.counted


class RequestQueue:
    """What waitress takes for its threads: whole requests in the order in which they came.

    At most `limit` pictures wait, none longer than `patience`, in seconds; what is told so, and what needs no picture,
    waits for nothing but the request that is worked on. That one is finished, so that nobody is told of a failure
    which is none.
    """

    def __init__(self, limit: int, patience: float) -> None:
        self._limit = limit
        self._patience = patience
        self._quick: deque[HTTPChannel] = deque()
        self._waiting: deque[tuple[float, HTTPChannel]] = deque()

    def __bool__(self) -> bool:
        return bool(self._quick or self._waiting)

    def add_task(self, channel: HTTPChannel) -> None:
        """waitress's word for it."""
        request = channel.requests[0]
        if request.error is None and request.command == "POST":
            if len(self._waiting) < self._limit:
                self._waiting.append((time.monotonic(), channel))
                WAITING.set(len(self._waiting))
                return
            request.error = Overloaded("More requests wait than can be answered soon. Send this one again in a second.")
        self._quick.append(channel)

    def serve_next(self) -> None:
        """Answer one."""
        if self._quick:
            channel = self._quick.popleft()
        else:
            since, channel = self._waiting.popleft()
            WAITING.set(len(self._waiting))
            if time.monotonic() - since > self._patience:
                told = f"No turn came in {self._patience:g} seconds. Send this request again in a second."
                channel.requests[0].error = Overloaded(told)
        channel.service()
        if channel.connected and channel.writable():
            channel.handle_write()


class ClosingTask(WSGITask):
    """While the server stops, every answer is the last one on its connection."""

    def build_response_header(self) -> bytes:
        if self.channel.server.stopping and not self.close_on_finish:
            self.set_close_on_finish()
        header: bytes = super().build_response_header()
        return header


class ProblemTask(ErrorTask):
    """What is refused before the app sees it (no HTTP, too large, too many) leaves in our one shape too."""

    def execute(self) -> None:
        error, request_id = self.request.error, new_request_id()
        headers = {"Content-Type": CONTENT_TYPE, REQUEST_ID: request_id} | ALWAYS
        if isinstance(error, RequestError):
            status, body = error.status, problem_body(error, request_id)
            headers |= error.headers
        else:
            status, body = error.code, http_problem(error.code, error.reason, error.body, request_id)
        if self.request.is_cut or not isinstance(error, RequestError):  # else what comes next is a request
            self.set_close_on_finish()
        if "*" in self.channel.server.origins:
            headers["Access-Control-Allow-Origin"] = "*"
        record_request(NO_ROUTE, getattr(self.request, "command", ""), status, 0.0, request_id)
        self.status = f"{status} {HTTPStatus(status).phrase}"
        self.response_headers += headers.items()
        self.content_length = len(body)
        self.write(body)


class ProblemChannel(HTTPChannel):
    parser_class = BoundedParser
    task_class = ClosingTask
    error_task_class = ProblemTask


def _affordable_connections() -> int:
    """Those that come when no file number is left could not even be closed: they would be seen again and again."""
    if sys.platform == "win32":
        return CONNECTIONS
    import resource

    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return CONNECTIONS if files == resource.RLIM_INFINITY else min(CONNECTIONS, max(1, files - OWN_FILES))
