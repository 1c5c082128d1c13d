"""The requests of one HTTP server that wait to be answered: two bounded queues, served in turn."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

from dexpression.serving.connection import ProblemChannel
from dexpression.web.errors import Overloaded
from dexpression.web.metrics import WAITING


@dataclass
class Waiting:
    """The requests of one kind, in order, each with the time of its arrival."""

    channels: deque[tuple[float, ProblemChannel]] = field(default_factory=deque)
    spent: float = 0.0  # seconds of answering, since requests of both kinds wait


class RequestQueue:
    """The queue of complete requests, in place of waitress's threads.

    Pictures and other requests (pages, health checks) wait in two queues of at most `limit`, none longer than `timeout`
    seconds. While both have requests, both get the same time, so that neither kind can starve the other. Refusals need
    no time and do not wait.
    """

    def __init__(self, limit: int, timeout: float) -> None:
        self._limit, self._timeout = limit, timeout
        self._pictures, self._others = Waiting(), Waiting()
        self._refused: deque[ProblemChannel] = deque()

    def __len__(self) -> int:
        return len(self._refused) + len(self._pictures.channels) + len(self._others.channels)

    def add_task(self, channel: ProblemChannel) -> None:
        """Queue the request of a channel, or refuse it; waitress calls this as the method of its dispatcher."""
        request = channel.requests[0]
        if request.error is not None:
            self._refused.append(channel)
            return
        waiting = self._pictures if request.command == "POST" else self._others
        if len(waiting.channels) >= self._limit:
            self._refuse(channel, "The queue is full. Retry in a second.")
            return
        waiting.channels.append((channel.read_at, channel))
        WAITING.set(len(self._pictures.channels))

    def refuse_late(self) -> None:
        """Refuse the requests that have waited too long."""
        latest = time.monotonic() - self._timeout
        for waiting in (self._pictures, self._others):
            while waiting.channels and waiting.channels[0][0] < latest:
                text = f"The request waited {self._timeout:g} s in the queue and was dropped. Retry in a second."
                self._refuse(waiting.channels.popleft()[1], text)
                WAITING.set(len(self._pictures.channels))

    def next(self, with_pictures: bool) -> tuple[ProblemChannel, Waiting] | None:
        """Take the next request, and the kind to which its seconds are to be added; None if none may be answered now.

        Without `with_pictures`, pictures stay in the queue.
        """
        if self._refused:
            return self._refused.popleft(), Waiting()
        pictures, others = self._pictures, self._others
        may_take_picture = with_pictures and bool(pictures.channels)
        if not (pictures.channels and others.channels):
            pictures.spent = others.spent = 0.0
        if may_take_picture and (not others.channels or pictures.spent <= others.spent):
            chosen = pictures
        elif others.channels:
            chosen = others
        else:
            return None
        _, channel = chosen.channels.popleft()
        WAITING.set(len(pictures.channels))
        return channel, chosen

    def _refuse(self, channel: ProblemChannel, text: str) -> None:
        channel.requests[0].error = Overloaded(text)
        self._refused.append(channel)
