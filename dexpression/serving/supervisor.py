"""The supervisor: verifies the model, starts the workers, replaces those that die, and loads a new model.

At the start, the ONNX model is verified without PyTorch, which is quick. Its learner is compared once the server is
ready. A new model is verified in full before it answers.

A start runs `serve`; each worker process runs `dexpression.serving.worker.run_worker`.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import multiprocessing
import os
import queue
import signal
import socket
import threading
import time
import warnings
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from dexpression import __version__
from dexpression.artifact.manifest import OnnxModel, learner_obstacle
from dexpression.errors import DeXpressionError, StartError
from dexpression.serving.capacity import choose_workers
from dexpression.serving.listener import bound_socket, stop_accepting
from dexpression.serving.model_files import ModelFiles
from dexpression.serving.shared_counters import SharedCounters
from dexpression.serving.shared_metrics import forget_process, name_process, shared_metrics
from dexpression.settings import Settings

PROCESSES = multiprocessing.get_context("spawn")  # the same on every system; a fork would copy locked locks
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)  # SIGINT is set too: shells start background jobs that ignore it
START_SECONDS = 60  # until all workers have to be ready
REMEDY = "See the log above, or lower DEXPRESSION_WORKERS."
VERIFY_SECONDS = 120  # until a verification is killed; it takes about 5 on an idle machine
NAMES = 8  # for successive workers in one place, of which several may still finish their requests
HANG_SECONDS = 10  # beyond the longest request, that a worker may send no heartbeat
POLL_SECONDS = 1.0  # between two looks at the workers and at the files of the model

logger = logging.getLogger(__name__)


def serve(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM; raises DeXpressionError if the server cannot start."""
    stop_signal = StopSignal()
    # By default, glibc keeps memory for each thread that decodes a picture, and large blocks among small ones: a worker
    # had 1.7 GB instead of 0.6, and kept 0.9 of them.
    os.environ.setdefault("MALLOC_ARENA_MAX", "1")
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", "1048576")
    logger.info("DeXpression %s starts.", __version__)
    workers = choose_workers(settings)
    logger.log(logging.INFO if workers.fits_memory else logging.WARNING, "%s", workers.reason)
    with bound_socket(settings.host, settings.port) as listener, shared_metrics():
        supervisor = Supervisor(settings, listener, workers.count, stop_signal)
        try:
            supervisor.start()
            logger.info("DeXpression answers on http://%s:%d (Ctrl-C stops it)", settings.host, settings.port)
            supervisor.watch()
        except StopRequested:
            pass
        finally:
            supervisor.stop()
    logger.info("Stopped.")


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
        """Send a model from a thread, because a worker that hangs does not read the pipe."""
        self._messages.put(model)
        threading.Thread(target=self._send_next, daemon=True).start()

    def withdraw(self) -> None:
        """Let the worker report that it is not ready, while it still answers, until it gets another model."""
        self._messages.put("withdraw")
        threading.Thread(target=self._send_next, daemon=True).start()

    def leave(self) -> None:
        """Let the worker finish its requests and end, while others serve."""
        with self._sending, contextlib.suppress(OSError):
            self.control_pipe.send("leave")
        self.control_pipe.close()

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


class Supervisor:
    """Keeps a number of workers running, all with the last model that was verified."""

    def __init__(self, settings: Settings, listener: socket.socket, workers: int, stop_signal: StopSignal) -> None:
        self._settings = settings
        self._listener = listener
        self._stop_signal = stop_signal
        self._number_of_workers = workers
        self._workers: list[WorkerHandle] = []
        self._draining: list[DrainingWorker] = []
        self._counters = SharedCounters(PROCESSES.RawArray("i", workers), PROCESSES.RawArray("L", workers))
        self._starts = [itertools.count() for _ in range(workers)]
        self._heartbeats = [(0, 0)] * workers  # the last one of each worker, and how often it was seen
        self._next_look = 0.0
        self._model_files = ModelFiles(settings.model_path)
        self._verification: Verification | None = None  # that runs at the moment
        self._withdrawn = False  # whether the learner's answers differ from those of the served model

    def start(self) -> None:
        """Verify the model while the workers import.

        Raises StartError, what `verify_onnx_model` raises, and StopRequested.
        """
        logger.info("The model in %s is verified.", self._settings.model_path)
        try:
            self._verification = Verification(self._settings.model_path)
            self._workers = [self._new_worker(number) for number in range(self._number_of_workers)]
        except OSError as error:
            reason = f"The server's processes cannot be started ({error.strerror})."
            raise StartError(f"{reason} Lower DEXPRESSION_WORKERS, or allow more open files and memory.") from error
        while not self._verification.is_done():
            self._stop_signal.wait([self._verification.pipe])
        self._model, self._has_compared_learner = self._verification.result()
        self._end_verification()
        logger.info("The model %s has its digests and gives its recorded answers.", self._model.manifest.sha256[:12])
        self._listener.listen(1024)
        for worker in self._workers:
            worker.send_model(self._model)
        deadline = time.monotonic() + START_SECONDS
        while not all(worker.is_ready for worker in self._workers):
            for worker in self._workers:
                if not worker.process.is_alive():
                    worker.read_messages()
                    raise worker.failure or StartError(f"Worker {worker.process.pid} died while it started. {REMEDY}")
            if time.monotonic() > deadline:
                raise StartError(f"The workers did not start within {START_SECONDS} s. {REMEDY}")
            self._poll_pipes()

    def watch(self) -> None:
        """Replace workers that die or hang, compare the learner, and load a new model; raises StopRequested."""
        if not self._has_compared_learner:
            self._compare_learner()
        while True:
            self._poll_workers()
            if self._model_files.have_changed():
                self._begin_verification(is_new=True)
            if self._verification and self._verification.is_done():
                self._take_result(self._verification)

    def stop(self) -> None:
        """Let every worker finish its requests, and kill those that need longer than the timeout."""
        deadline = self._stop_deadline()
        self._end_verification()
        stop_accepting(self._listener)
        self._listener.close()
        workers = self._workers + [draining.worker for draining in self._draining]
        for worker in workers:
            worker.control_pipe.close()
        for worker in workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                logger.warning("Worker %d did not stop in time.", worker.process.pid)
                worker.process.kill()

    def _stop_deadline(self) -> float:
        """When a worker that is asked to stop now is killed, by time.monotonic()."""
        return time.monotonic() + self._settings.graceful_timeout_seconds + 2

    def _poll_pipes(self) -> None:
        """Wait until a worker sends something or dies, for at most `POLL_SECONDS`; raises StopRequested."""
        sources: list[Connection | int] = []
        for worker in self._workers:
            sources += [worker.control_pipe, worker.process.sentinel]
        self._stop_signal.wait(sources)
        for worker in self._workers:
            worker.read_messages()

    def _poll_workers(self) -> None:
        self._poll_pipes()
        self._kill_hanging_workers()
        for number, worker in enumerate(self._workers):
            if not worker.process.is_alive():
                logger.warning("Worker %d died (%s) and is replaced.", worker.process.pid, worker.process.exitcode)
                if self._start_successor(number):
                    worker.control_pipe.close()
                    forget_process(worker.process.name)
            elif worker.needs_replacement:
                logger.warning("Worker %d works too long on one request and is replaced.", worker.process.pid)
                if self._start_successor(number):
                    self._draining.append(DrainingWorker(worker, number))
        self._draining = [draining for draining in self._draining if not self._has_left(draining)]

    def _kill_hanging_workers(self) -> None:
        """Kill a worker that does not even poll its connections any more, or does not become ready."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + POLL_SECONDS
        for number, worker in enumerate(self._workers):
            heartbeat, (last, looks) = self._counters.heartbeats[number], self._heartbeats[number]
            looks = looks + 1 if heartbeat == last and worker.is_ready else 0
            self._heartbeats[number] = (heartbeat, looks)
            hangs = looks * POLL_SECONDS > self._settings.request_timeout_seconds + HANG_SECONDS
            if hangs or (not worker.is_ready and now > worker.started_at + START_SECONDS):
                logger.error("Worker %d hangs.", worker.process.pid)
                worker.process.kill()
                worker.process.join()

    def _new_worker(self, number: int) -> WorkerHandle:
        name = f"worker{number}-{next(self._starts[number]) % NAMES}"
        return WorkerHandle(self._listener, self._settings, self._counters, number, name)

    def _start_successor(self, number: int) -> bool:
        """Start a worker in the place of another; False if that is not possible now."""
        try:
            worker = self._new_worker(number)
        except OSError as error:  # no memory or no file descriptors; perhaps there are some a second later
            logger.error("A new worker cannot be started (%s).", error.strerror)
            self._stop_signal.wait([])
            return False
        self._workers[number] = worker
        worker.send_model(self._model)
        if self._withdrawn:
            worker.withdraw()
        return True

    def _has_left(self, draining: DrainingWorker) -> bool:
        """Let a worker go as soon as its successor is ready; whether its process has ended."""
        worker = draining.worker
        if not draining.deadline and self._workers[draining.number].is_ready:
            worker.leave()
            draining.deadline = self._stop_deadline()
        if draining.deadline and time.monotonic() > draining.deadline:
            worker.process.kill()
            worker.process.join()
        if worker.process.is_alive():
            return False
        forget_process(worker.process.name)
        return True

    def _compare_learner(self) -> None:
        """Begin to compare the served model with its learner, where that is possible."""
        obstacle = learner_obstacle(self._settings.model_path)
        if obstacle:
            logger.info("The learner of this model is not compared with it, because %s.", obstacle)
        else:
            self._begin_verification(is_new=False)

    def _begin_verification(self, is_new: bool) -> None:
        """Begin to verify the export in full, or without its learner if that cannot be loaded.

        `is_new`: its files have changed, and are perhaps not those of the served model.
        """
        self._end_verification()
        with_learner = learner_obstacle(self._settings.model_path) is None
        try:
            self._verification = Verification(self._settings.model_path, with_learner, is_new, nice=5)
        except OSError as error:  # no memory or no file descriptors
            logger.error("The model cannot be verified at the moment (%s); the old one still answers.", error.strerror)

    def _end_verification(self) -> None:
        if self._verification:
            self._verification.kill()
            self._verification = None

    def _take_result(self, verification: Verification) -> None:
        """Load the model that was verified, or say why not. A failed verification never stops the server."""
        try:
            verified = verification.result()
        except Exception as error:
            if verification.is_new:
                logger.error("The new model is not used; the old one still answers. %s", error)
            elif self._model_files.are_unchanged():  # otherwise a verification of the new files follows
                logger.error("The server is not ready any more, until it gets another model. %s", error)
                self._withdraw()
            return
        finally:
            self._end_verification()
        if verified.model != self._model or self._withdrawn:
            self._use(verified.model)
        if verified.with_learner:
            logger.info("The model %s answers as its learner does in PyTorch.", self._model.manifest.sha256[:12])

    def _withdraw(self) -> None:
        self._withdrawn = True
        for worker in self._workers:
            worker.withdraw()

    def _use(self, model: OnnxModel) -> None:
        self._model, self._withdrawn = model, False
        for worker in self._workers:
            worker.send_model(model)
        logger.info("The new model %s answers from now on.", model.manifest.sha256[:12])


class Verified(NamedTuple):
    """The result of a verification."""

    model: OnnxModel
    with_learner: bool  # whether its answers were compared with those of its learner


class Verification:
    """A process that verifies an export, so that the memory is freed with it, and that can be killed."""

    def __init__(self, model_path: Path, with_learner: bool = False, is_new: bool = False, nice: int = 0) -> None:
        self.is_new = is_new
        self.pipe, child_end = PROCESSES.Pipe(duplex=False)
        arguments = child_end, model_path, with_learner, nice
        self._process = PROCESSES.Process(target=_verify, args=arguments, name="verification", daemon=True)
        self._process.start()
        child_end.close()
        self._deadline = time.monotonic() + VERIFY_SECONDS

    def is_done(self) -> bool:
        """Whether `result` returns or raises at once."""
        return self.pipe.poll() or time.monotonic() > self._deadline

    def result(self) -> Verified:
        """Wait for the verified model; raises the reason against it, and StartError for no result in time."""
        if not self.pipe.poll(max(0.0, self._deadline - time.monotonic())):
            raise StartError(f"The verification of the model took longer than {VERIFY_SECONDS} s. Export it again.")
        try:
            result: Verified | DeXpressionError = self.pipe.recv()
        except EOFError:
            raise StartError("The process that verifies the model died. Is there enough free memory?") from None
        if isinstance(result, DeXpressionError):
            raise result
        return result

    def kill(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.join()
        self.pipe.close()


# The two functions below run in processes of their own. Each imports what it needs, so that a worker loads no torch and
# the supervisor no Flask.


def _verify(pipe: Connection, model_path: Path, with_learner: bool, nice: int) -> None:
    """Send the Verified model, or the reason against it; `nice` lowers the priority, where the system supports it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the supervisor handles it
    if nice and hasattr(os, "nice"):
        os.nice(nice)
    warnings.simplefilter("ignore")  # fastai's imports warn
    from dexpression.artifact.verification import verify_export, verify_onnx_model

    try:
        model = verify_export(model_path) if with_learner else verify_onnx_model(model_path)
        pipe.send(Verified(model, with_learner or "onnx" not in model.manifest.digests))
    except DeXpressionError as error:
        pipe.send(error)
    except Exception as error:
        pipe.send(StartError(f"The verification of the model failed ({type(error).__name__}). Export it again."))


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
