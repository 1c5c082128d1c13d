"""A process that labels files, and is replaced if a file ends it or takes too long."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import cast

from dexpression.cluster.films import Alive
from dexpression.cluster.rows import INTERNAL, WORKER_DIED, WORKER_HUNG, Job, Row, failed_row, label_file
from dexpression.cluster.source import Entry
from dexpression.errors import DeXpressionError, StartError
from dexpression.faces import FaceDetector
from dexpression.prediction import Predictor
from dexpression.serving.processes import PROCESSES

START_SECONDS = 120.0  # until a process is ready; it takes about one on an idle machine
FILE_SECONDS = 60.0  # until a process is replaced that gives no row and no sign of life; films may take hours
TRIES = 2  # of a file that ends its process; another program may have killed the first one

READY = "ready"
ALIVE = "alive"  # a sign of life: a film is still read
DONE = "done"  # all rows of a file are sent
DIED = "Reading the file ends the process that reads it"


class Stopped(Exception):
    """The run stops, and with it its workers."""


class Lost(Exception):
    """The process has died, or was killed because it took too long."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{reason}. Save a picture anew as JPEG or PNG, and a film as MP4.")
        self.code = code


class Worker:
    """Labels files one after the other in a process of its own. Another thread may call `stop` alone."""

    def __init__(self, job: Job, target: Callable[[Connection], None] | None = None) -> None:
        """`target` is what runs in the process; by default, `run_worker`."""
        self._job, self._target = job, target or run_worker
        self._process: BaseProcess | None = None
        self._pipe: Connection
        self._is_stopped = False

    def label(self, entries: Sequence[Entry]) -> Iterator[Row]:
        """The rows of each file, in order; what was labelled before the process died is not labelled again.

        Only a film is read anew, because it gives the same rows; those of its minutes that are known are left out.
        Raises StartError if there can be no process, Stopped, and DataError if the source cannot be read any more.
        """
        position = failures = known = 0  # `known`: rows of the file at this position
        while position < len(entries):
            try:
                self._send(entries[position:])
                while position < len(entries):
                    for row in islice(self._receive_rows(), known, None):
                        known += 1
                        yield row
                    position, failures, known = position + 1, 0, 0
            except Lost as lost:
                failures += 1
                if failures == TRIES:
                    yield failed_row(entries[position], lost.code, str(lost))
                    position, failures, known = position + 1, 0, 0

    def stop(self) -> None:
        """End the process, whatever it does; a thread in `label` gets Stopped."""
        self._is_stopped = True
        if process := self._process:
            process.kill()

    def _send(self, entries: Sequence[Entry]) -> None:
        if self._process is None:
            self._start()
        self._write(entries)

    def _write(self, message: Job | Sequence[Entry]) -> None:
        try:
            self._pipe.send(message)
        except OSError:
            raise self._lose(WORKER_DIED, DIED) from None

    def _start(self) -> None:
        self._pipe, child_end = PROCESSES.Pipe()
        # The job is no argument: `start` would wait for ever to hand over so much to a process that dies at once.
        process = PROCESSES.Process(target=self._target, args=(child_end,), name="label", daemon=True)
        with _without_interrupts():
            process.start()
        self._process = process
        child_end.close()  # so that the death of the process closes the pipe
        try:
            self._write(self._job)
            self._receive(START_SECONDS)
        except Lost:
            raise StartError("A process that labels files cannot start. Is there enough free memory?") from None

    def _receive_rows(self) -> Iterator[Row]:
        """The rows of the next file, as they are made."""
        while (message := self._receive(FILE_SECONDS)) != DONE:
            if message != ALIVE:
                yield cast(Row, message)

    def _receive(self, seconds: float) -> Row | str:
        """The next message; raises Lost, Stopped, or the error that the process has sent."""
        try:
            if self._is_stopped or not self._pipe.poll(seconds):
                raise self._lose(WORKER_HUNG, f"Reading the file gives nothing for {seconds:.0f} s")
            message: Row | str | DeXpressionError = self._pipe.recv()
        except (EOFError, OSError):
            raise self._lose(WORKER_DIED, DIED) from None
        if isinstance(message, DeXpressionError):
            raise message
        return message

    def _lose(self, code: str, reason: str) -> Exception:
        """Free what is left of the process, and return the error."""
        if self._process:
            self._process.kill()
            self._process.join()
        self._pipe.close()
        self._process = None
        return Stopped() if self._is_stopped else Lost(code, reason)


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Let processes that start meanwhile be deaf to Ctrl-C, which reaches all; the parent handles it."""
    if not hasattr(signal, "pthread_sigmask"):  # on Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def run_worker(pipe: Connection) -> None:
    """Receive a job, and then lists of files; label these with one thread, and send the rows. End with the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where `_without_interrupts` does nothing
    warnings.simplefilter("ignore")  # Pillow warns of each damaged entry of a picture
    with suppress(EOFError, OSError):  # the parent has died, or stops
        job: Job = pipe.recv()
        try:
            predictor = Predictor.from_onnx_model(job.model, FaceDetector.load(threads=1))
            pipe.send(READY)
            while True:
                for entry in pipe.recv():
                    for row in _label_safely(entry, job, predictor, lambda: pipe.send(ALIVE)):
                        pipe.send(row)
                    pipe.send(DONE)
        except DeXpressionError as error:
            pipe.send(error)


def _label_safely(entry: Entry, job: Job, predictor: Predictor, alive: Alive) -> Iterator[Row]:
    try:
        yield from label_file(entry, job, predictor, alive)
    except DeXpressionError:
        raise
    except Exception as error:  # one file in millions must not stop the others
        yield failed_row(entry, INTERNAL, f"Reading the file failed ({type(error).__name__}). Please report it.")
