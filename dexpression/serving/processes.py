"""Starting processes, and waiting for them until a signal asks the server to stop."""

from __future__ import annotations

import multiprocessing
import signal
from multiprocessing.connection import Connection, wait
from types import FrameType

PROCESSES = multiprocessing.get_context("spawn")  # the same on every system; a fork would copy locked locks
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)  # SIGINT is set too: shells start background jobs that ignore it
POLL_SECONDS = 1.0  # between two looks at the workers and at the files of the model


class StopRequested(Exception):
    """SIGINT or SIGTERM has arrived."""


class StopSignal:
    """Ends a wait when SIGINT or SIGTERM arrives, now or before.

    Its handler raises nothing: an exception would be lost if the signal came while an object is deleted.
    """

    def __init__(self) -> None:
        self._pipe, self._open_end = PROCESSES.Pipe(duplex=False)
        for number in STOP_SIGNALS:
            signal.signal(number, self._arrive)

    def _arrive(self, _signal: int, _frame: FrameType | None) -> None:
        self._open_end.close()  # so that a wait for the pipe ends

    def wait(self, sources: list[Connection | int]) -> None:
        """Wait until a source is ready, for at most `POLL_SECONDS`; raises StopRequested."""
        wait([self._pipe, *sources], POLL_SECONDS)
        if self._open_end.closed:
            raise StopRequested
