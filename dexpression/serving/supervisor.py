"""The supervisor: verifies the model, starts the workers, replaces those that die, and loads a new model.

At the start, the ONNX model is verified without PyTorch, which is quick. Its learner is compared once the server is
ready. A new model is verified in full before it answers.

A start runs `serve`; each worker process runs `dexpression.serving.worker.run_worker`.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import socket
import time
from multiprocessing.connection import Connection

from dexpression import __version__
from dexpression.artifact.manifest import Manifest, OnnxModel, learner_obstacle
from dexpression.errors import ArtifactError, StartError, UnknownLabels, UnknownReading
from dexpression.serving.capacity import choose_workers
from dexpression.serving.listener import bound_socket, stop_accepting
from dexpression.serving.model_files import ModelFiles
from dexpression.serving.processes import POLL_SECONDS, PROCESSES, StopRequested, StopSignal
from dexpression.serving.shared_counters import SharedCounters
from dexpression.serving.shared_metrics import forget_process, shared_metrics
from dexpression.serving.verification_process import Verification
from dexpression.serving.worker_handle import DrainingWorker, WorkerHandle
from dexpression.settings import Settings, require_choices

START_SECONDS = 60  # until all workers have to be ready
REMEDY = "See the log above, or lower DEXPRESSION_WORKERS."
NAMES = 8  # for successive workers in one place, of which several may still finish their requests
HANG_SECONDS = 10  # beyond the longest request, that a worker may send no heartbeat
RETRY_SECONDS = 60.0  # after a verification that could not run; doubled each time

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
        self._next_verification = math.inf  # by time.monotonic()
        self._retry_seconds = RETRY_SECONDS
        self._compared = False  # whether the served model was seen to answer as its learner does
        self._withdrawn = False  # whether it was seen not to do so

    def start(self) -> None:
        """Verify the model while the workers import.

        Raises StartError, what `verify_onnx_model` raises, and StopRequested.
        """
        logger.info("Verifying the model in %s.", self._settings.model_path)
        try:
            self._verification = Verification(self._settings.model_path)
            self._workers = [self._new_worker(number) for number in range(self._number_of_workers)]
        except OSError as error:
            reason = f"The server's processes cannot be started ({error.strerror})."
            raise StartError(f"{reason} Lower DEXPRESSION_WORKERS, or allow more open files and memory.") from error
        while not self._verification.is_done():
            self._stop_signal.wait([self._verification.pipe])
        self._model, self._compared = self._verification.result()
        self._end_verification()
        require_choices(self._model.manifest.labels, self._model.manifest.readings, self._settings)
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
        self._log_comparison(self._compared)
        if not self._compared and learner_obstacle(self._settings.model_path) is None:
            self._next_verification = 0.0
        while True:
            self._poll_workers()
            if self._model_files.have_changed():
                self._retry_seconds, self._next_verification = RETRY_SECONDS, 0.0
            if time.monotonic() >= self._next_verification:
                self._begin_verification()
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

    def _begin_verification(self) -> None:
        """Verify the export in full, or without its learner if that cannot be loaded."""
        self._end_verification()
        self._next_verification = math.inf
        with_learner = learner_obstacle(self._settings.model_path) is None
        try:
            self._verification = Verification(self._settings.model_path, with_learner, nice=5)
        except OSError as error:  # no memory or no file descriptors
            self._verify_later(f"No process can be started ({error.strerror}).")

    def _end_verification(self) -> None:
        if self._verification:
            self._verification.kill()
            self._verification = None

    def _take_result(self, verification: Verification) -> None:
        """Use the model that was verified, or log why not. A failed verification never stops the server."""
        try:
            model, with_learner = verification.result()
            require_choices(model.manifest.labels, model.manifest.readings, self._settings)
        except (ArtifactError, UnknownLabels, UnknownReading) as error:
            self._refuse(error, verification.with_learner)
        except Exception as error:  # it says nothing about the model
            self._verify_later(error)
        else:
            self._use(model, with_learner)
        finally:
            self._end_verification()

    def _refuse(self, error: ArtifactError | UnknownLabels | UnknownReading, with_learner: bool) -> None:
        """Log what is wrong with the export; if the served model is of this export, report that it is not ready.

        It gave its recorded answers before, so that only a comparison with its learner can speak against it.
        """
        if self._compared or not with_learner or not self._serves_these_files():
            logger.error("The new model is not used; the old one still answers. %s", error)
            return
        logger.error("The server is not ready any more, until it gets another model. %s", error)
        self._withdrawn = True
        for worker in self._workers:
            worker.withdraw()

    def _verify_later(self, reason: object) -> None:
        logger.error("The model could not be verified; the old one still answers. %s", reason)
        self._next_verification = time.monotonic() + self._retry_seconds
        self._retry_seconds *= 2

    def _serves_these_files(self) -> bool:
        try:
            return Manifest.of_export(self._settings.model_path) == self._model.manifest
        except ArtifactError:
            return False

    def _use(self, model: OnnxModel, with_learner: bool) -> None:
        """Let all workers answer with a model that was verified, if they do not yet, or not as a ready one."""
        is_new = model != self._model
        if is_new or (self._withdrawn and with_learner):
            self._model, self._withdrawn = model, False
            for worker in self._workers:
                worker.send_model(model)
            what = "The new model %s answers from now on." if is_new else "The model %s is ready again."
            logger.info(what, model.manifest.sha256[:12])
        self._compared = with_learner or (self._compared and not is_new)
        self._log_comparison(with_learner)

    def _log_comparison(self, compared: bool) -> None:
        """Log whether the served model was compared with its learner; nothing if that is still to be done."""
        name = self._model.manifest.sha256[:12]
        obstacle = learner_obstacle(self._settings.model_path)
        if compared:
            logger.info("The model %s answers as its learner does in PyTorch.", name)
        elif obstacle:
            logger.info("The learner of this model, %s, is not compared with it, because %s.", name, obstacle)
