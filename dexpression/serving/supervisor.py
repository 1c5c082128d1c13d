"""The supervisor: verifies the model, starts the workers, replaces those that die, and loads a new model.

A start runs `serve`; each worker process runs `dexpression.serving.worker.run_worker`.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import queue
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Iterator, MutableSequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType

from dexpression.artifact.manifest import OnnxModel
from dexpression.errors import DeXpressionError, StartError
from dexpression.serving.listener import bound_socket, stop_accepting
from dexpression.serving.model_files import ModelFiles
from dexpression.serving.shared_metrics import forget_process, shared_metrics
from dexpression.settings import Settings

PROCESSES = multiprocessing.get_context("spawn")  # the same on every system; a fork would copy locked locks
START_SECONDS = 60  # until all workers have to be ready
REMEDY = "See the log above, or lower DEXPRESSION_WORKERS."
VERIFY_SECONDS = 120  # until a verification is killed; it takes about 5 on an idle machine
POLL_SECONDS = 1.0  # between two looks at the workers and at the files of the model

logger = logging.getLogger(__name__)


def serve(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM; raises DeXpressionError if the server cannot start."""
    for number in (signal.SIGTERM, signal.SIGINT):  # SIGINT too, because shells start background jobs that ignore it
        signal.signal(number, _exit)
    with bound_socket(settings.host, settings.port) as listener, shared_metrics():
        supervisor = Supervisor(settings, listener)
        try:
            supervisor.start()
            logger.info("DeXpression answers on http://%s:%d (Ctrl-C stops it)", settings.host, settings.port)
            supervisor.watch()
        except (SystemExit, KeyboardInterrupt):
            pass
        finally:
            supervisor.stop()
    logger.info("Stopped.")


class WorkerHandle:
    """A worker process, and the control pipe to it."""

    def __init__(self, listener: socket.socket, settings: Settings, loads: MutableSequence[int], number: int) -> None:
        self.control_pipe, worker_end = PROCESSES.Pipe()
        self.process: BaseProcess = PROCESSES.Process(
            target=_run_worker, args=(listener, worker_end, settings, loads, number), daemon=True
        )
        self.process.start()
        worker_end.close()  # so that the worker alone keeps its end open, and its death closes the pipe
        self.is_ready = False
        self._models: queue.SimpleQueue[OnnxModel] = queue.SimpleQueue()
        self._sending = threading.Lock()

    def send_model(self, model: OnnxModel) -> None:
        """Send a model from a thread, because a worker that hangs does not read the pipe."""
        self._models.put(model)
        threading.Thread(target=self._send_next, daemon=True).start()

    def _send_next(self) -> None:
        with self._sending, contextlib.suppress(OSError):  # the worker has just died, and will be replaced
            self.control_pipe.send(self._models.get())  # in order, whichever thread comes first

    def poll_ready(self) -> None:
        """Set `is_ready` if the worker has said so."""
        with contextlib.suppress(EOFError, OSError):
            while self.control_pipe.poll():
                self.control_pipe.recv()
                self.is_ready = True


class Supervisor:
    """Keeps the configured number of workers running, all with the last model that was verified."""

    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        self._settings = settings
        self._listener = listener
        self._workers: list[WorkerHandle] = []
        self._loads: MutableSequence[int] = PROCESSES.RawArray("i", settings.workers)  # connections of each worker
        self._model_files = ModelFiles(settings.model_path)

    def start(self) -> None:
        """Verify the model while the workers import; raises StartError, and what `verify_export` raises."""
        with verification(self._settings.model_path) as verified:
            self._workers = [self._new_worker(number) for number in range(self._settings.workers)]
            self._model = verified.result()
        self._listener.listen(1024)
        for worker in self._workers:
            worker.send_model(self._model)
        deadline = time.monotonic() + START_SECONDS
        while not all(worker.is_ready for worker in self._workers):
            dead = [worker for worker in self._workers if not worker.process.is_alive()]
            if dead:
                raise StartError(f"Worker {dead[0].process.pid} died while it started. {REMEDY}")
            if time.monotonic() > deadline:
                raise StartError(f"The workers did not start within {START_SECONDS} s. {REMEDY}")
            self._poll_pipes()

    def watch(self) -> None:
        """Replace workers that die, and load a model whose files have changed; never returns."""
        while True:
            self._poll_workers()
            if self._model_files.have_changed():
                self._reload()

    def stop(self) -> None:
        """Let every worker finish its requests, and kill those that need longer than the timeout."""
        deadline = time.monotonic() + self._settings.graceful_timeout_seconds + 2
        stop_accepting(self._listener)
        self._listener.close()
        for worker in self._workers:
            worker.control_pipe.close()
        for worker in self._workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                logger.warning("Worker %d did not stop in time.", worker.process.pid)
                worker.process.kill()

    def _poll_pipes(self) -> None:
        """Wait until a worker sends something or dies, for at most `POLL_SECONDS`."""
        sources: list[Connection | int] = []
        for worker in self._workers:
            sources += [worker.control_pipe, worker.process.sentinel]
        wait(sources, POLL_SECONDS)
        for worker in self._workers:
            worker.poll_ready()

    def _poll_workers(self) -> None:
        self._poll_pipes()
        for index, worker in enumerate(self._workers):
            if not worker.process.is_alive():
                self._workers[index] = self._replace(worker, index)

    def _new_worker(self, number: int) -> WorkerHandle:
        return WorkerHandle(self._listener, self._settings, self._loads, number)

    def _replace(self, dead: WorkerHandle, number: int) -> WorkerHandle:
        logger.warning("Worker %d died (%s) and is replaced.", dead.process.pid, dead.process.exitcode)
        forget_process(dead.process.pid)
        try:
            worker = self._new_worker(number)
        except OSError as error:  # no memory or no file descriptors; perhaps there are some a second later
            logger.error("A new worker cannot be started (%s).", error.strerror)
            time.sleep(POLL_SECONDS)
            return dead
        dead.control_pipe.close()
        worker.send_model(self._model)
        return worker

    def _reload(self) -> None:
        try:
            with verification(self._settings.model_path, nice=5) as verified:
                while not verified.is_done():
                    self._poll_workers()
                model = verified.result()
        except Exception as error:  # a failed verification must never stop the server
            logger.error("The new model is not used; the old one still answers. %s", error)
            return
        if model == self._model:
            return
        self._model = model
        for worker in self._workers:
            worker.send_model(model)
        logger.info("The new model %s answers from now on.", model.manifest.sha256[:12])


class Verification:
    """A process that runs `verify_export`, so that torch's memory is freed with it, and that can be killed."""

    def __init__(self, model_path: Path, nice: int) -> None:
        self._pipe, child_end = PROCESSES.Pipe(duplex=False)
        self._process = PROCESSES.Process(target=_verify, args=(child_end, model_path, nice), daemon=True)
        self._process.start()
        child_end.close()
        self._deadline = time.monotonic() + VERIFY_SECONDS

    def is_done(self) -> bool:
        """Whether `result` returns or raises at once."""
        return self._pipe.poll() or time.monotonic() > self._deadline

    def result(self) -> OnnxModel:
        """Wait for the verified model; raises what `verify_export` raises, and StartError for no result in time."""
        if not self._pipe.poll(max(0.0, self._deadline - time.monotonic())):
            raise StartError(f"The verification of the model took longer than {VERIFY_SECONDS} s. Export it again.")
        try:
            result: OnnxModel | DeXpressionError = self._pipe.recv()
        except EOFError:
            raise StartError("The process that verifies the model died. Is there enough free memory?") from None
        if isinstance(result, DeXpressionError):
            raise result
        return result

    def kill(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.join()
        self._pipe.close()


@contextlib.contextmanager
def verification(model_path: Path, nice: int = 0) -> Iterator[Verification]:
    """Start a verification, and kill it at the end of the block, also when the server stops meanwhile."""
    verifying = Verification(model_path, nice)
    try:
        yield verifying
    finally:
        verifying.kill()


# The two functions below run in processes of their own. Each imports what it needs, so that a worker loads no torch and
# the supervisor no Flask.


def _verify(pipe: Connection, model_path: Path, nice: int) -> None:
    """Send the verified model, or the reason against it; `nice` lowers the priority, where the system supports it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the supervisor handles it
    if nice and hasattr(os, "nice"):
        os.nice(nice)
    warnings.simplefilter("ignore")  # fastai's imports warn
    from dexpression.artifact.verification import verify_export

    try:
        pipe.send(verify_export(model_path))
    except DeXpressionError as error:
        pipe.send(error)
    except Exception as error:
        pipe.send(StartError(f"The verification of the model failed ({type(error).__name__}). Export it again."))


def _run_worker(
    listener: socket.socket, control_pipe: Connection, settings: Settings, loads: MutableSequence[int], number: int
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from dexpression.serving.worker import run_worker

    run_worker(listener, control_pipe, settings, loads, number)


def _exit(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(0)
