"""A process that labels files, and is replaced if a file ends it or takes too long."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from dexpression.cluster.rows import INTERNAL, WORKER_DIED, WORKER_HUNG, Job, Row, failed_row, label_file
from dexpression.cluster.source import Entry
from dexpression.errors import DeXpressionError, StartError
from dexpression.faces import FaceDetector
from dexpression.prediction import Predictor
from dexpression.serving.processes import PROCESSES

START_SECONDS = 120.0  # until a process is ready; it takes about one on an idle machine
FILE_SECONDS = 60.0  # until a process is replaced that labels one file
TRIES = 2  # of a file that ends its process; another program may have killed the first one

READY = "ready"
DIED = "Reading the file ends the process that reads it"


class Stopped(Exception):
    """The run stops, and with it its workers."""


class Lost(Exception):
    """The process has died, or was killed because it took too long."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{reason}. Save the picture anew, as JPEG or PNG.")
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
        """The row of each file, in order; what was labelled before the process died is not labelled again.

        Raises StartError if there can be no process, Stopped, and DataError if the source cannot be read any more.
        """
        position = failures = 0
        while position < len(entries):
            try:
                self._send(entries[position:])
                while position < len(entries):
                    yield self._receive(FILE_SECONDS)
                    position, failures = position + 1, 0
            except Lost as lost:
                failures += 1
                if failures == TRIES:
                    yield failed_row(entries[position], lost.code, str(lost))
                    position, failures = position + 1, 0

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

    def _receive(self, seconds: float) -> Row:
        """The next message; raises Lost, Stopped, or the error that the process has sent."""
        try:
            if self._is_stopped or not self._pipe.poll(seconds):
                raise self._lose(WORKER_HUNG, f"Reading the file takes more than {seconds:.0f} s")
            message: Row | DeXpressionError = self._pipe.recv()
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
    """Receive a job, and then lists of files; label these with one thread, and send each row. End with the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where `_without_interrupts` does nothing
    warnings.simplefilter("ignore")  # Pillow warns of each damaged entry of a picture
    with suppress(EOFError, OSError):  # the parent has died, or stops
        job: Job = pipe.recv()
        try:
            predictor = Predictor.from_onnx_model(job.model, FaceDetector.load(threads=1))
            pipe.send(READY)
            while True:
                for entry in pipe.recv():
                    pipe.send(_label_safely(entry, job, predictor))
        except DeXpressionError as error:
            pipe.send(error)


def _label_safely(entry: Entry, job: Job, predictor: Predictor) -> Row:
    try:
        return label_file(entry, job, predictor)
    except DeXpressionError:
        raise
    except Exception as error:  # one file in millions must not stop the others
        return failed_row(entry, INTERNAL, f"Reading the file failed ({type(error).__name__}). Please report it.")
