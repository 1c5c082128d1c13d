"""The HTTP server of one worker: waitress's event loop, which calls the Flask application itself.

waitress reads a complete request before it passes it on, so a slow sender blocks no other. Its threads are not used:
they wake each other several times per request and compete for the interpreter, which cost as much time as the network.
Here one thread leads: it polls the connections and answers, one request at a time. If one answer takes long, another
thread takes the lead (the leader/followers pattern, Schmidt et al. 2000), so that a worker never falls silent.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from wsgiref.types import WSGIApplication

import waitress

from dexpression.errors import StartError
from dexpression.logs import Rarely
from dexpression.serving.connection import ProblemChannel
from dexpression.serving.request_queue import RequestQueue
from dexpression.serving.shares import Shares
from dexpression.settings import Settings
from dexpression.web.cors import Cors
from dexpression.web.errors import TooSlow
from dexpression.web.service import Service

MAX_CONNECTIONS = 1_000  # open at once, if the system allows a process as many
MIN_CONNECTIONS = 8  # with fewer, the server does not start
SPARE_FILES = 24  # file descriptors beyond those that are open at the start: metrics, a log, pictures of a client
MAX_HEADER_BYTES = 32_768  # waitress searches all of a header that is not complete at each read
MAX_BUFFERED_UPLOADS = 16  # of the largest size, in memory at once; more are refused
MAX_UNREAD_BYTES = 64_000_000  # of answers in memory whose clients do not read
KEEPALIVE_DRAIN_SECONDS = 1.0  # that a stop keeps idle connections open, so that a request on its way is answered
ACCEPT_RETRY_SECONDS = 0.02  # after which a worker accepts connections although another worker has fewer
ACCEPT_LOOK_SECONDS = 0.005  # between two looks at how many connections the other workers have, during that time
ACCEPT_PAUSE_SECONDS = 1.0  # without accepting, after the system had no file descriptor or no memory for a connection
MIN_SILENT_SECONDS = 0.05  # before a connection may be closed for a new one
MAX_BATCH_SECONDS = 0.01  # of answering between two polls of the connections, whose cost grows with their number
IDLE_SECONDS = 0.1  # of waiting in a poll, if no request waits
TAKEOVER_SECONDS = 0.1  # that the leader may need for one answer, until another thread takes the lead
MAX_THREADS = 16  # of which one leads, and one is ready to take over
NO_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

logger = logging.getLogger(__name__)


@dataclass
class Work:
    """A request that a thread works on."""

    channel: ProblemChannel
    since: float  # time.monotonic()
    is_given_up: bool = False


class HttpServer:
    """Serves on a socket that other workers share: the worker with the fewest connections accepts the next one.

    `number` is the index of this worker in `shares`. `on_worn` is called when a request takes longer than
    `settings.request_timeout_seconds`: its thread may be lost, so the worker should be replaced. Raises StartError if
    the process may open too few files.
    """

    def __init__(
        self,
        app: WSGIApplication,
        listener: socket.socket,
        settings: Settings,
        shares: Shares | None = None,
        number: int = 0,
        on_worn: Callable[[], None] = lambda: None,
    ) -> None:
        self._max_connections = _max_connections()
        self._queue = RequestQueue(settings.max_queue, settings.queue_timeout_seconds)
        self._server = waitress.create_server(
            app,
            sockets=[listener],
            _dispatcher=self._queue,
            connection_limit=sys.maxsize,  # `_may_accept` has the limit
            channel_request_lookahead=1,  # lets waitress notice that a waiting client has disconnected
            asyncore_use_poll=sys.platform != "win32",  # select takes no file descriptor above 1,023
            ident="dexpression",
            max_request_header_size=MAX_HEADER_BYTES,
            # A body that is a little too large is read to its end, so that the client reads the answer.
            max_request_body_size=2 * settings.max_upload_bytes,
            # Above these, waitress would write to disk or wait for another thread.
            inbuf_overflow=sys.maxsize,
            outbuf_overflow=sys.maxsize,
            outbuf_high_watermark=sys.maxsize,
        )
        server = self._server
        server.channel_class = ProblemChannel
        server.adj.counting = threading.RLock()  # a parser may be deleted in any thread, and in the middle of counting
        server.adj.buffered_bytes = 0
        server.adj.max_buffered_bytes = MAX_BUFFERED_UPLOADS * settings.max_upload_bytes
        server.stopping = False
        server.cors = Cors(settings)
        self._wake = server.pull_trigger
        server.pull_trigger = lambda: None  # `_answer` does it when it is needed
        server.readable = self._may_accept
        server.handle_accept = self._accept_all
        self._shares, self._number = shares or Shares([0], [0]), number
        self._next_accept = self._paused_until = 0.0
        self._rarely = Rarely(logger)
        self._graceful_timeout = settings.graceful_timeout_seconds
        self._request_timeout = settings.request_timeout_seconds
        self._on_worn = on_worn
        # The threads: `_lock` guards who leads, and what each of them works on.
        self._lock = threading.Lock()
        self._leader = 0
        self._work: dict[int, Work] = {}
        self._thread_count = 0
        self._answered: deque[ProblemChannel] = deque()  # by threads that no longer lead
        self._poll_seconds = IDLE_SECONDS
        self._stopped_at = 0.0
        self._has_ended = threading.Event()

    def run(self, service: Service) -> None:
        """Serve until `stop` is called; then finish open requests, within the graceful timeout.

        All work is done in other threads, so that neither signals nor the end wait for a thread that hangs.
        """
        self._service = service
        self._start_thread()
        if self._thread_count:
            self._has_ended.wait()

    def stop(self) -> None:
        """Stop the server at its next poll, within 0.1 s; may be called from any thread or from a signal handler."""
        self._server.stopping = True

    def _start_thread(self) -> None:
        with self._lock:
            self._thread_count += 1
        try:
            threading.Thread(target=self._run_thread, daemon=True).start()
        except RuntimeError:  # no memory for a stack
            self._rarely.warning("No thread can be started for now, so a picture that takes long delays others.")
            with self._lock:
                self._thread_count -= 1

    def _run_thread(self) -> None:
        """Lead, or follow until the leader is busy; end if another thread follows already."""
        me = threading.get_ident()
        with self._lock:
            self._leader = self._leader or me
        while not self._has_ended.is_set():
            if self._leader == me:
                self._lead_safely(me)
            elif self._is_surplus():
                return
            else:
                self._has_ended.wait(TAKEOVER_SECONDS / 2)
                self._take_over(me)

    def _lead_safely(self, me: int) -> None:
        try:
            self._lead(me)
        except Exception:  # such as MemoryError; without a leader, the worker would be silent
            logger.exception("A poll of the connections failed.")

    def _is_surplus(self) -> bool:
        """Whether a follower may end, because another one is left; it then counts no longer."""
        with self._lock:
            is_surplus = self._thread_count - len(self._work) > 2
            self._thread_count -= is_surplus
        return is_surplus

    def _take_over(self, me: int) -> None:
        """Become the leader, if the leader has worked on one answer for too long."""
        with self._lock:
            work = self._work.get(self._leader)
            if work and time.monotonic() > work.since + TAKEOVER_SECONDS:
                self._leader = me

    def _lead(self, me: int) -> None:
        """Poll the connections; then answer requests for a short time, or until another thread leads."""
        server = self._server
        self._shares.beats[self._number] += 1
        if not self._has_follower() and self._thread_count < MAX_THREADS:
            self._start_thread()
        is_waiting_to_accept = time.monotonic() < self._next_accept  # until another worker has as many, or for a while
        seconds = min(self._poll_seconds, ACCEPT_LOOK_SECONDS) if is_waiting_to_accept else self._poll_seconds
        server.asyncore.loop(seconds, server.adj.asyncore_use_poll, server._map, count=1)
        while self._answered:
            self._answered.popleft().resume()
        self._give_up_slow_requests()
        self._queue.refuse_late()
        self._poll_seconds = 0.0
        end = time.monotonic() + MAX_BATCH_SECONDS
        while self._leader == me and time.monotonic() < end:
            if not self._answer_next(me):
                self._poll_seconds = IDLE_SECONDS
                break
        if self._leader == me and server.stopping:
            self._continue_stop()

    def _has_follower(self) -> bool:
        """Whether a thread is free to take over from the leader."""
        return self._thread_count - len(self._work) >= 2

    def _answer_next(self, me: int) -> bool:
        """Answer the next request; False if there is none. Pictures wait while no thread could take over."""
        chosen = self._queue.next(with_pictures=self._has_follower())
        if chosen is None:
            return False
        channel, waiting = chosen
        started = time.monotonic()
        self._work[me] = Work(channel, started)
        try:
            channel.service()
        finally:
            with self._lock:
                del self._work[me]
                leads = self._leader == me
        waiting.spent += time.monotonic() - started
        if leads:
            self._finish(channel)
        else:
            self._answered.append(channel)
            self._wake()
        return True

    def _finish(self, channel: ProblemChannel) -> None:
        channel.resume()
        if channel.unread_bytes and self._count_unread() > MAX_UNREAD_BYTES:
            self._rarely.warning("Clients do not read their answers; some connections are closed.")
            channel.handle_close()

    def _count_unread(self) -> int:
        return sum(channel.unread_bytes for channel in self._server.active_channels.values())

    def _give_up_slow_requests(self) -> None:
        latest = time.monotonic() - self._request_timeout
        for work in list(self._work.values()):
            if work.since < latest and not work.is_given_up:
                work.is_given_up = True
                text = f"The request took longer than {self._request_timeout:g} s. Send a smaller or simpler picture."
                work.channel.give_up(TooSlow(text))
                self._on_worn()

    def _may_accept(self) -> bool:
        """Whether this worker should accept a connection now: without this rule, the busiest one would get the most.

        A worker with clearly more connections than another accepts only now and then, in case the other one hangs.
        """
        is_listening: bool = type(self._server).readable(self._server)  # it also closes connections that are long idle
        now, connections = time.monotonic(), len(self._server.active_channels)
        self._shares.connections[self._number] = connections
        if (
            not is_listening
            or now < self._paused_until
            or (now < self._next_accept and connections > self._fair_load())
        ):
            return False
        return connections < self._max_connections or self._longest_silent() is not None

    def _fair_load(self) -> int:
        """The connections up to which this worker accepts: with many, a small difference is not worth a poll each."""
        fewest = min(self._shares.connections)
        return fewest + fewest // 8

    def _accept_all(self) -> None:
        """Accept waiting connections up to a fair number, but at least one; waitress accepts only one at each poll."""
        self._next_accept = time.monotonic() + ACCEPT_RETRY_SECONDS
        while self._accept_one() and self._may_accept():
            pass

    def _accept_one(self) -> bool:
        """Accept a connection, if there is one; at the limit, the one that was silent for longest is closed for it."""
        server = self._server
        try:
            accepted = server.accept()
            if accepted is None:
                return False
            connection, address = accepted
            server.set_socket_options(connection)
        except OSError as error:
            if error.errno in NO_RESOURCES:
                self._rarely.warning(f"No connection can be accepted for now ({os.strerror(error.errno)}).")
                self._paused_until = time.monotonic() + ACCEPT_PAUSE_SECONDS
            return False
        if len(server.active_channels) >= self._max_connections and (silent := self._longest_silent()):
            self._rarely.warning("All connections are in use; those that are silent for longest are closed.")
            silent.handle_close()
        server.channel_class(server, connection, server.fix_addr(address), server.adj, map=server._map)
        return True

    def _longest_silent(self) -> ProblemChannel | None:
        """The connection that may be closed for a new one: not one whose request may be on its way."""
        latest = time.monotonic() - MIN_SILENT_SECONDS
        channels = [channel for channel in self._server.active_channels.values() if channel.read_at < latest]
        silent = (channel for channel in sorted(channels, key=lambda channel: channel.read_at) if channel.is_silent)
        return next(silent, None)

    def _continue_stop(self) -> None:
        """Close the listener; then, at each poll, idle connections; end when all are closed, or after the timeout."""
        server, now = self._server, time.monotonic()
        if not self._stopped_at:
            self._service.stopping = True
            self._stopped_at = now
            while self._accept_one():  # connections in the accept queue are still answered
                pass
            server.del_channel()
            server.socket.close()
            self._poll_seconds = 0.0
            return
        waited = now - self._stopped_at
        if waited > KEEPALIVE_DRAIN_SECONDS:  # after a poll, which reads requests that arrived meanwhile
            for channel in list(server.active_channels.values()):
                if channel.is_silent and not channel.request:
                    channel.will_close = True
        if not server.active_channels or waited > self._graceful_timeout:
            server.asyncore.close_all(server._map)
            self._has_ended.set()


def _max_connections() -> int:
    """The number of connections for which this process has file descriptors; raises StartError for hardly any."""
    if sys.platform == "win32":
        return MAX_CONNECTIONS
    import resource

    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    needed = len(list(Path("/dev/fd").iterdir())) + SPARE_FILES
    if files < needed + MIN_CONNECTIONS:
        raise StartError(
            f"A process may open only {files} files, and a worker needs {needed + MIN_CONNECTIONS}. "
            "Allow more, for example by: ulimit -n 1024"
        )
    return min(MAX_CONNECTIONS, files - needed)
