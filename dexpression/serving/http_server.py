"""The HTTP server of one worker: waitress's event loop, which calls the Flask application itself.

waitress reads a complete request before it passes it on, so a slow sender blocks no other. Its threads are not used:
they wake each other several times per request and compete for the interpreter, which cost as much time as the network.
Here one thread polls the connections and answers, one request at a time; another one takes over if that takes long.
"""

from __future__ import annotations

import logging
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from wsgiref.types import WSGIApplication

import waitress

from dexpression.logs import ThrottledLogger
from dexpression.serving.acceptor import Acceptor
from dexpression.serving.connection import ProblemChannel
from dexpression.serving.leadership import Leadership, Work
from dexpression.serving.request_queue import Kind, RequestQueue, kind_of
from dexpression.serving.shared_counters import SharedCounters
from dexpression.settings import Settings
from dexpression.web.cors import Cors
from dexpression.web.errors import TooSlow
from dexpression.web.service import Postponed, Service

MAX_HEADER_BYTES = 32_768  # waitress searches all of a header that is not complete at each read
READ_BYTES = 65_536  # of a connection at each poll
MAX_BUFFERED_UPLOADS = 16  # of the largest size, in memory at once; more are refused
MAX_UNREAD_BYTES = 64_000_000  # of answers in memory whose clients do not read
MAX_IDLE_SECONDS = 120  # of a connection, until it is closed
KEEPALIVE_DRAIN_SECONDS = 1.0  # that a stop keeps idle connections open, so that a request on its way is answered
MAX_BATCH_SECONDS = 0.01  # of answering between two polls of the connections, whose cost grows with their number
POLL_SECONDS = 0.1  # of waiting in a poll, if no request waits
MAX_LARGE = 2  # requests of this kind in work at once, or they would all take long

logger = logging.getLogger(__name__)


class HttpServer:
    """Serves on a socket that other workers share.

    `number` is the index of this worker in `counters`. `on_overdue` is called when a request takes longer than
    `settings.request_timeout_seconds`: its thread may be lost, so the worker should be replaced. Raises StartError if
    the process may open too few files.
    """

    def __init__(
        self,
        app: WSGIApplication,
        listener: socket.socket,
        settings: Settings,
        counters: SharedCounters | None = None,
        number: int = 0,
        on_overdue: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings, self._on_overdue = settings, on_overdue
        self._throttled = ThrottledLogger(logger)
        self._counters, self._number = counters or SharedCounters([0], [0]), number
        self._acceptor = Acceptor(self._counters, number)
        self._queue = RequestQueue(settings.max_queue, settings.queue_timeout_seconds)
        self._server = server = waitress.create_server(
            app,
            sockets=[listener],
            _dispatcher=self._queue,
            connection_limit=sys.maxsize,  # the acceptor has the limit
            channel_request_lookahead=1,  # lets waitress notice that a waiting client has disconnected
            asyncore_use_poll=sys.platform != "win32",  # select takes no file descriptor above 1,023
            ident="dexpression",
            recv_bytes=READ_BYTES,
            max_request_header_size=MAX_HEADER_BYTES,
            # A body that is a little too large is read to its end, so that the client reads the answer.
            max_request_body_size=2 * settings.max_upload_bytes,
            # Above these, waitress would write to disk or wait for another thread.
            inbuf_overflow=sys.maxsize,
            outbuf_overflow=sys.maxsize,
            outbuf_high_watermark=sys.maxsize,
        )
        self._acceptor.attach(server)
        server.channel_class = ProblemChannel
        server.adj.counting = threading.RLock()  # a parser may be deleted in any thread, and in the middle of counting
        server.adj.buffered_bytes = 0
        server.adj.max_buffered_bytes = MAX_BUFFERED_UPLOADS * settings.max_upload_bytes
        server.stopping = False
        server.cors = Cors(settings)
        self._wake = server.pull_trigger
        server.pull_trigger = lambda: None  # `_answer_next` does it when it is needed
        server.maintenance = self._close_long_idle
        server.handle_error = lambda: self._throttled.exception("A connection could not be accepted.")
        self._threads = Leadership(self._poll_and_answer)
        self._answered: deque[ProblemChannel] = deque()  # by threads that no longer lead
        self._poll_seconds = POLL_SECONDS
        self._stopped_at = 0.0
        self._others_serve = False

    def run(self, service: Service) -> None:
        """Serve until `stop` is called; then finish open requests, within the graceful timeout."""
        self._service = service
        self._threads.run()

    def stop(self, others_serve: bool = False) -> None:
        """Stop at the next poll, within 0.1 s; may be called from any thread or from a signal handler.

        With `others_serve`, only this worker stops, so it does not tell callers that the server is not ready.
        """
        self._others_serve |= others_serve
        self._server.stopping = True

    @property
    def has_busy_threads(self) -> bool:
        """Whether threads are still at work, which may never end."""
        return bool(self._threads.work())

    def _poll_and_answer(self) -> None:
        """Poll the connections; then answer requests for a short time, or until another thread leads."""
        server, threads = self._server, self._threads
        self._counters.heartbeats[self._number] += 1
        threads.provide_follower()
        seconds = self._acceptor.poll_seconds(self._poll_seconds)
        server.asyncore.loop(seconds, server.adj.asyncore_use_poll, server._map, count=1)
        self._acceptor.accept_waiting()
        while self._answered:
            self._answered.popleft().resume()
        self._give_up_overdue_requests()
        self._queue.refuse_late()
        self._answer_batch()
        if threads.is_leader() and server.stopping:
            self._continue_stop()

    def _answer_batch(self) -> None:
        end = time.monotonic() + MAX_BATCH_SECONDS
        self._poll_seconds = 0.0
        while self._threads.is_leader() and time.monotonic() < end:
            if not self._answer_next():
                self._poll_seconds = POLL_SECONDS
                return

    def _answer_next(self) -> bool:
        """Answer the next request; False if there is none that may be begun now."""
        channel = self._queue.take(self._allowed_kinds())
        if channel is None:
            return False
        kind, started = kind_of(channel), time.monotonic()
        self._threads.begin(Work(channel, channel.requests[0], kind, started))
        channel.is_in_work = True
        try:
            channel.service()
        except Postponed:  # it is larger than it seemed
            channel.prepare_again()
            self._queue.add_task(channel)
        finally:
            channel.is_in_work = False
            self._queue.add_time(kind, time.monotonic() - started)
            still_leads = self._threads.finish()
        if still_leads:
            self._send(channel)
        else:
            self._answered.append(channel)
            self._wake()
        return True

    def _allowed_kinds(self) -> tuple[Kind, ...]:
        """The kinds of requests that may be begun: pictures only if another thread could take over meanwhile."""
        if not self._threads.has_follower():
            return (Kind.OTHER,)
        if sum(work.kind is Kind.LARGE for work in self._threads.work()) >= MAX_LARGE:
            return (Kind.OTHER, Kind.SMALL)
        return (Kind.OTHER, Kind.SMALL, Kind.LARGE)

    def _send(self, channel: ProblemChannel) -> None:
        """Send what can be sent of an answer; if too much waits to be read, drop the client that has read least."""
        channel.resume()
        channels = self._server.active_channels.values()
        if channel.unread_bytes and sum(one.unread_bytes for one in channels) > MAX_UNREAD_BYTES:
            self._throttled.warning("Clients do not read their answers; some connections are closed.")
            max(channels, key=lambda one: one.unread_bytes).drop()

    def _give_up_overdue_requests(self) -> None:
        seconds = self._settings.request_timeout_seconds
        latest = time.monotonic() - seconds
        for work in self._threads.work():
            if work.since < latest and not work.is_given_up:
                work.is_given_up = True
                text = f"The request took longer than {seconds:g} s. Send a smaller or simpler picture."
                work.channel.give_up(work.request, TooSlow(text))
                self._on_overdue()

    def _close_long_idle(self, _now: float) -> None:
        """Close connections that are idle for long; waitress calls this now and then, by a clock that may jump."""
        latest = time.monotonic() - MAX_IDLE_SECONDS
        for channel in self._server.active_channels.values():
            if channel.active_at < latest and not channel.requests:
                channel.will_close = True

    def _continue_stop(self) -> None:
        """Close the listener; then, at each poll, idle connections; end when all are closed, or after the timeout."""
        server, now = self._server, time.monotonic()
        if not self._stopped_at:
            self._stopped_at = now
            self._service.stopping = not self._others_serve
            while self._acceptor.accept_one():  # connections in the accept queue are still answered
                pass
            server.del_channel()
            server.socket.close()
            self._poll_seconds = 0.0
            return
        waited = now - self._stopped_at
        if waited > KEEPALIVE_DRAIN_SECONDS:  # after a poll, which reads requests that arrived meanwhile
            for channel in list(server.active_channels.values()):
                if channel.is_idle and not (channel.request or channel.total_outbufs_len):
                    channel.will_close = True
        if not server.active_channels or waited > self._settings.graceful_timeout_seconds:
            server.asyncore.close_all(server._map)
            self._threads.end()
