"""The requests of one HTTP server that wait to be answered: bounded queues by kind, served in turn."""

from __future__ import annotations

import enum
import time
from collections import deque

from dexpression.serving.connection import ProblemChannel
from dexpression.web.errors import Overloaded
from dexpression.web.metrics import WAITING


class Kind(enum.Enum):
    """What a request costs, as far as is known: at first its size, later what the app has found in it."""

    REFUSAL = "refusal"  # it is answered with an error, at once
    OTHER = "other"  # a page or a health check, quickly answered
    SMALL = "small"  # a face or a frame of a webcam
    LARGE = "large"  # a photo, several pictures, or many pixels


PICTURES = (Kind.SMALL, Kind.LARGE)


def kind_of(channel: ProblemChannel) -> Kind:
    """The kind of the complete request of a channel."""
    request = channel.requests[0]
    if request.error is not None:
        return Kind.REFUSAL
    if request.command != "POST":
        return Kind.OTHER
    return Kind.LARGE if request.is_large else Kind.SMALL


class RequestQueue:
    """The queues of complete requests, in place of waitress's threads.

    At most `limit` pictures and as many other requests wait, none longer than `timeout` seconds. Kinds that have
    requests waiting get the same time, so that none can starve another. Refusals need no time and do not wait.
    """

    def __init__(self, limit: int, timeout: float) -> None:
        self._limit, self._timeout = limit, timeout
        self._queues: dict[Kind, deque[ProblemChannel]] = {kind: deque() for kind in Kind}
        self._seconds = dict.fromkeys(Kind, 0.0)  # of answering, by kind, since several kinds wait

    def add_task(self, channel: ProblemChannel) -> None:
        """Queue the request of a channel, or refuse it; waitress calls this as the method of its dispatcher."""
        kind = kind_of(channel)
        waiting = self._waiting_pictures if kind in PICTURES else len(self._queues[kind])
        if kind is not Kind.REFUSAL and waiting >= self._limit:
            self._refuse(channel, "The queue is full. Retry in a second.")
        else:
            self._queues[kind].append(channel)

    def refuse_late(self) -> None:
        """Refuse the requests that have waited too long, and report how many pictures wait."""
        for kind in (Kind.OTHER, *PICTURES):
            queue = self._queues[kind]
            while queue and self._is_late(queue[0]):
                self._refuse_late(queue.popleft())
        WAITING.set(self._waiting_pictures)

    def take(self, allowed: tuple[Kind, ...]) -> ProblemChannel | None:
        """Take the next request of the allowed kinds, or a refusal; None if there is none."""
        if self._queues[Kind.REFUSAL]:
            return self._queues[Kind.REFUSAL].popleft()
        waiting = [kind for kind in allowed if self._queues[kind]]
        if not waiting:
            return None
        if len(waiting) == 1:  # time that others did not want is not made up for
            self._seconds = dict.fromkeys(Kind, 0.0)
        channel = self._queues[min(waiting, key=self._seconds.__getitem__)].popleft()
        if self._is_late(channel):  # although one before it was not: a client sent several requests at once
            self._refuse_late(channel)
            return self._queues[Kind.REFUSAL].popleft()
        return channel

    def add_time(self, kind: Kind, seconds: float) -> None:
        """Note that answering a request of this kind has taken so long."""
        self._seconds[kind] += seconds

    @property
    def _waiting_pictures(self) -> int:
        return sum(len(self._queues[kind]) for kind in PICTURES)

    def _is_late(self, channel: ProblemChannel) -> bool:
        return time.monotonic() > channel.requested_at + self._timeout

    def _refuse_late(self, channel: ProblemChannel) -> None:
        text = f"The request waited {self._timeout:g} s in the queue and was dropped. Retry in a second."
        self._refuse(channel, text)

    def _refuse(self, channel: ProblemChannel, text: str) -> None:
        channel.requests[0].error = Overloaded(text)
        self._queues[Kind.REFUSAL].append(channel)
