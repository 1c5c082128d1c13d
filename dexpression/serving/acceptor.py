"""Which worker accepts a new connection, and which connection is closed when there are too many."""

from __future__ import annotations

import errno
import logging
import os
import sys
import time
from pathlib import Path

from waitress.server import BaseWSGIServer

from dexpression.errors import StartError
from dexpression.logs import ThrottledLogger
from dexpression.serving.connection import ProblemChannel
from dexpression.serving.shared_counters import SharedCounters

MAX_CONNECTIONS = 1_000  # open at once, if the system allows a process as many
MAX_CONNECTIONS_OF_SELECT = 480  # on Windows, which has no poll
MIN_CONNECTIONS = 8  # with fewer, the server does not start
SPARE_FILES = 24  # file descriptors beyond those that are open at the start, for example for metrics
USUAL_FILES = 32  # that are open at the start, if the system does not show them
RETRY_SECONDS = 0.02  # after which a worker accepts connections although another worker has fewer
LOOK_SECONDS = 0.005  # between two looks at how many connections the other workers have, during that time
PAUSE_SECONDS = 1.0  # without accepting, after the system had no file descriptor or no memory for a connection
MIN_IDLE_SECONDS = 0.05  # before a connection may be closed for a new one
NO_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

logger = logging.getLogger(__name__)


class Acceptor:
    """Accepts connections for one worker, so that all workers have about as many.

    Raises StartError if the process may open too few files.
    """

    def __init__(self, counters: SharedCounters, number: int) -> None:
        self._limit = _max_connections()
        self._connections, self._number = counters.connections, number
        self._next_accept = self._paused_until = 0.0  # time.monotonic()
        self._is_one_waiting = False
        self._throttled = ThrottledLogger(logger)

    def attach(self, server: BaseWSGIServer) -> None:
        """Take over the accepting of a server of waitress."""
        self._server = server
        server.readable = self._may_accept
        # Accepting in the middle of a poll could close a connection and give its number, and its events, to a new one.
        server.handle_accept = self._note

    def poll_seconds(self, longest: float) -> float:
        """How long a poll may wait at most: soon, another worker may have as many connections as this one."""
        return min(longest, LOOK_SECONDS) if time.monotonic() < self._next_accept else longest

    def accept_waiting(self) -> None:
        """Accept connections up to a fair number, but at least one, if the last poll has found one."""
        if not self._is_one_waiting:
            return
        self._is_one_waiting = False
        self._next_accept = time.monotonic() + RETRY_SECONDS
        while self.accept_one() and self._may_accept():
            pass

    def accept_one(self) -> bool:
        """Accept a connection, if there is one; at the limit, the one that was idle for longest is closed for it."""
        server = self._server
        try:
            accepted = server.accept()
            if accepted is None:
                return False
            connection, address = accepted
            server.set_socket_options(connection)
        except OSError as error:
            if error.errno in NO_RESOURCES:
                self._throttled.warning(f"No connection can be accepted for now ({os.strerror(error.errno)}).")
                self._paused_until = time.monotonic() + PAUSE_SECONDS
            return False
        if len(server.active_channels) >= self._limit and (idle := self._longest_idle()):
            self._throttled.warning("All connections are in use; those that are idle for longest are closed.")
            idle.drop()
        server.channel_class(server, connection, server.fix_addr(address), server.adj, map=server._map)
        return True

    def _note(self) -> None:
        self._is_one_waiting = True

    def _may_accept(self) -> bool:
        """Whether this worker should accept a connection now: without this rule, the busiest one would get the most.

        A worker with clearly more connections than another accepts only now and then, in case the other one hangs.
        """
        is_listening: bool = type(self._server).readable(self._server)  # it also closes connections that are long idle
        now, connections = time.monotonic(), len(self._server.active_channels)
        self._connections[self._number] = connections
        has_its_share = now < self._next_accept and connections > self._fair_number()
        if not is_listening or now < self._paused_until or has_its_share:
            return False
        return connections < self._limit or self._longest_idle() is not None

    def _fair_number(self) -> int:
        """The connections up to which this worker accepts: with many, a small difference is not worth a poll each."""
        fewest = min(self._connections)
        return fewest + fewest // 8

    def _longest_idle(self) -> ProblemChannel | None:
        """The connection that may be closed for a new one: not one whose request may be on its way."""
        latest = time.monotonic() - MIN_IDLE_SECONDS
        channels = [channel for channel in self._server.active_channels.values() if channel.active_at < latest]
        idle = (channel for channel in sorted(channels, key=lambda channel: channel.active_at) if channel.is_idle)
        return next(idle, None)


def _max_connections() -> int:
    """The number of connections for which this process has file descriptors; raises StartError for hardly any."""
    if sys.platform == "win32":
        return MAX_CONNECTIONS_OF_SELECT
    import resource

    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    needed = _count_open_files() + SPARE_FILES
    if files < needed + MIN_CONNECTIONS:
        raise StartError(
            f"A process may open only {files} files, and a worker needs {needed + MIN_CONNECTIONS}. "
            "Allow more, for example by: ulimit -n 1024"
        )
    return min(MAX_CONNECTIONS, files - needed)


def _count_open_files() -> int:
    try:
        return len(list(Path("/dev/fd").iterdir()))
    except OSError:
        return USUAL_FILES
