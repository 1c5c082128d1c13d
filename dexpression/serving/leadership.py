"""Threads of which one leads and the others follow (the leader/followers pattern, Schmidt et al. 2000).

The leader does all work itself, so that quick work needs no change of threads. If one piece of work takes long, a
follower takes the lead, and the thread that is busy becomes a follower when it is done.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from dexpression.logs import ThrottledLogger
from dexpression.serving.connection import BoundedParser, ProblemChannel
from dexpression.serving.request_queue import Kind

TAKEOVER_SECONDS = 0.1  # of work on one request, until a follower takes the lead
MAX_THREADS = 8  # of which one leads, and one is ready to take over
FAILURE_PAUSE_SECONDS = 0.1  # after a failure, or one that repeats would keep the processor busy

logger = logging.getLogger(__name__)


@dataclass
class Work:
    """A request that a thread works on."""

    channel: ProblemChannel
    request: BoundedParser
    kind: Kind
    since: float  # time.monotonic()
    is_given_up: bool = False


class Leadership:
    """Runs `lead` again and again in the thread that leads, until `end` is called."""

    def __init__(self, lead: Callable[[], None]) -> None:
        self._lead = lead
        self._throttled = ThrottledLogger(logger)
        self._has_ended = threading.Event()
        self._lock = threading.Lock()  # guards the following
        self._leader = 0
        self._thread_count = 0
        self._work: dict[int, Work] = {}

    def run(self) -> None:
        """Lead in other threads, so that neither signals nor the end wait for a thread that hangs."""
        self.provide_follower()
        if self._thread_count:
            self._has_ended.wait()

    def end(self) -> None:
        """Let `run` return; a thread that is still busy is left alone."""
        self._has_ended.set()

    def provide_follower(self) -> None:
        """Start a thread if none is free to take over from the leader, unless there are too many."""
        if self.has_follower() or self._thread_count >= MAX_THREADS:
            return
        with self._lock:
            self._thread_count += 1
        try:
            threading.Thread(target=self._run_thread, daemon=True).start()
        except RuntimeError:  # no memory for a stack
            self._throttled.warning("No thread can be started for now, so a picture that takes long delays others.")
            with self._lock:
                self._thread_count -= 1

    def has_follower(self) -> bool:
        """Whether a thread is free to take over from the leader, who asks."""
        return self._thread_count - len(self._work) >= 2

    def is_leader(self) -> bool:
        """Whether the current thread leads."""
        return self._leader == threading.get_ident()

    def work(self) -> list[Work]:
        """What the threads work on now."""
        return list(self._work.values())

    def begin(self, work: Work) -> None:
        """Note what the current thread, the leader, works on."""
        self._work[threading.get_ident()] = work

    def finish(self) -> bool:
        """Note that the current thread's work is done; whether it still leads."""
        with self._lock:
            del self._work[threading.get_ident()]
            return self.is_leader()

    def _run_thread(self) -> None:
        """Lead, or follow until the leader is busy; end if another thread follows already."""
        with self._lock:
            self._leader = self._leader or threading.get_ident()
        while not self._has_ended.is_set():
            if self.is_leader():
                self._lead_safely()
            elif self._is_surplus():
                return
            else:
                self._has_ended.wait(TAKEOVER_SECONDS / 2)
                self._take_over()

    def _lead_safely(self) -> None:
        try:
            self._lead()
        except Exception:  # such as MemoryError; the server needs a leader, whatever happens
            self._throttled.exception("A poll of the connections failed.")
            self._has_ended.wait(FAILURE_PAUSE_SECONDS)

    def _is_surplus(self) -> bool:
        """Whether a follower may end, because another one is left; it then counts no longer."""
        with self._lock:
            is_surplus = self._thread_count - len(self._work) > 2
            self._thread_count -= is_surplus
        return is_surplus

    def _take_over(self) -> None:
        """Become the leader, if the leader has worked on one request for too long."""
        with self._lock:
            work = self._work.get(self._leader)
            if work and time.monotonic() > work.since + TAKEOVER_SECONDS:
                self._leader = threading.get_ident()
