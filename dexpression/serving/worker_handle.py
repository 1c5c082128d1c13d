"""A worker process as the supervisor sees it. In that process runs `dexpression.serving.worker.run_worker`."""

from __future__ import annotations

import contextlib
import queue
import signal
import socket
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from dexpression.artifact.manifest import OnnxModel
from dexpression.errors import StartError
from dexpression.serving.processes import PROCESSES
from dexpression.serving.shared_counters import SharedCounters
from dexpression.serving.shared_metrics import name_process
from dexpression.settings import Settings


class WorkerHandle:
    """A worker process, and the control pipe to it."""

    def __init__(
        self, listener: socket.socket, settings: Settings, counters: SharedCounters, number: int, name: str
    ) -> None:
        self.control_pipe, worker_end = PROCESSES.Pipe()
        self.process: BaseProcess = PROCESSES.Process(
            target=_run_worker, args=(listener, worker_end, settings, counters, number, name), name=name, daemon=True
        )
        self.process.start()
        self.started_at = time.monotonic()
        worker_end.close()  # so that the worker alone keeps its end open, and its death closes the pipe
        self.is_ready = self.needs_replacement = False
        self.failure: StartError | None = None
        self._messages: queue.SimpleQueue[OnnxModel | str] = queue.SimpleQueue()
        self._sending = threading.Lock()

    def send_model(self, model: OnnxModel) -> None:
        """Let the worker answer with this model."""
        self._send(model)

    def withdraw(self) -> None:
        """Let the worker report that it is not ready, while it still answers, until it gets another model."""
        self._send("withdraw")

    def leave(self) -> None:
        """Let the worker finish its requests and end, while others serve."""
        with self._sending, contextlib.suppress(OSError):
            self.control_pipe.send("leave")
        self.control_pipe.close()

    def _send(self, message: OnnxModel | str) -> None:
        """Send from a thread, because a worker that hangs does not read the pipe."""
        self._messages.put(message)
        threading.Thread(target=self._send_next, daemon=True).start()

    def _send_next(self) -> None:
        with self._sending, contextlib.suppress(OSError):  # the worker has just died, and will be replaced
            self.control_pipe.send(self._messages.get())  # in order, whichever thread comes first

    def read_messages(self) -> None:
        """Read what the worker has sent: that it is ready, why it cannot start, or that it should be replaced."""
        with contextlib.suppress(EOFError, OSError):
            while self.control_pipe.poll():
                message = self.control_pipe.recv()
                self.is_ready |= message == "ready"
                self.needs_replacement |= message == "overdue"
                if isinstance(message, StartError):
                    self.failure = message


@dataclass
class DrainingWorker:
    """A worker that finishes its requests, because another serves in its place, or soon will."""

    worker: WorkerHandle
    number: int  # of its place
    deadline: float = 0.0  # time.monotonic() when it is killed; 0 while its successor is not ready


def _run_worker(
    listener: socket.socket,
    control_pipe: Connection,
    settings: Settings,
    counters: SharedCounters,
    number: int,
    name: str,
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    name_process(name)
    from dexpression.serving.worker import run_worker

    run_worker(listener, control_pipe, settings, counters, number)
