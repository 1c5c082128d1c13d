"""How much is worked on at once, how much may wait, and how long."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from dexpression.errors import Overloaded
from dexpression.web.metrics import WAITING, WORKING


class WorkQueue:
    """Of `slots` requests at once and `limit` that wait; none waits longer than `patience`, in seconds.

    A request that has its turn is worked on to its end, so that nobody is told of a failure which is none.
    """

    def __init__(self, slots: int, limit: int, patience: float) -> None:
        self._free = threading.Semaphore(slots)
        self._places = threading.Semaphore(slots + limit)
        self._patience = patience

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for one, and have it; raises Overloaded."""
        if not self._places.acquire(blocking=False):
            raise Overloaded("More requests wait than this server can answer soon. Send this one again in a second.")
        try:
            with WAITING.track_inprogress():
                in_time = self._free.acquire(timeout=self._patience)
            if not in_time:
                raise Overloaded(f"No turn came in {self._patience:g} seconds. Send this one again in a second.")
            try:
                with WORKING.track_inprogress():
                    yield
            finally:
                self._free.release()
        finally:
            self._places.release()
