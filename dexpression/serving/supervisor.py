"""The process that keeps the server running: it checks the model, starts the workers, and replaces what dies."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import queue
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, MutableSequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import IO

from dexpression.artifact.manifest import ENGINE_FILE, Model, manifest_path
from dexpression.errors import DeXpressionError, SettingError
from dexpression.serving.listener import admit_no_more, bound_socket
from dexpression.serving.processes import answer, check
from dexpression.settings import Settings

PROCESSES = multiprocessing.get_context("spawn")  # the same on every system; a fork would copy locks that are held
START_SECONDS = 60  # that workers have to get ready
METRICS = "dexpression-metrics-"  # how the folder of shared metrics begins
TICK = 1.0  # seconds between two looks at model/

logger = logging.getLogger(__name__)


def serve(settings: Settings) -> None:
    """Answer until SIGINT or SIGTERM; raises DeXpressionError when the start cannot work."""
    for number in (signal.SIGTERM, signal.SIGINT):  # SIGINT too: a shell has background jobs ignore it
        signal.signal(number, _stop)
    with bound_socket(settings.host, settings.port) as listener, _shared_metrics():
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


class Worker:
    """A process that answers, and the pipe to it."""

    def __init__(self, listener: socket.socket, settings: Settings, loads: MutableSequence[int], number: int) -> None:
        self.orders, theirs = PROCESSES.Pipe()
        self.process: BaseProcess = PROCESSES.Process(
            target=answer, args=(listener, theirs, settings, loads, number), daemon=True
        )
        self.process.start()
        theirs.close()  # so that the worker's end alone keeps the pipe open, and its death is seen
        self.is_ready = False
        self._models: queue.SimpleQueue[Model] = queue.SimpleQueue()
        self._sending = threading.Lock()

    def give(self, model: Model) -> None:
        """Have it answer with this model, in its own time: a worker that hangs does not take the pipe's content."""
        self._models.put(model)
        threading.Thread(target=self._send, daemon=True).start()

    def _send(self) -> None:
        with self._sending, contextlib.suppress(OSError):  # of one that has just died, and is replaced soon
            self.orders.send(self._models.get())  # in the order in which they were given, whichever thread is first

    def listen(self) -> None:
        """Note that it is ready, if it says so."""
        with contextlib.suppress(EOFError, OSError):
            while self.orders.poll():
                self.orders.recv()
                self.is_ready = True


class Supervisor:
    """Keeps as many workers as the settings say, all with the last model that was found good."""

    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        self._settings = settings
        self._listener = listener
        self._workers: list[Worker] = []
        self._loads: MutableSequence[int] = PROCESSES.RawArray("i", settings.workers)  # callers that each has
        self._watched = ModelFiles(settings.model_path)

    def start(self) -> None:
        """Workers import what they need while the model is checked; raises what `verify_export` does."""
        with verification(self._settings.model_path) as checked:
            self._workers = [self._new_worker(number) for number in range(self._settings.workers)]
            try:
                self._model = checked.result()
            except BrokenProcessPool:
                raise SettingError("The process that checks the model died. Is there too little memory?") from None
        self._listener.listen(1024)
        for worker in self._workers:
            worker.give(self._model)
        deadline = time.monotonic() + START_SECONDS
        while not all(worker.is_ready for worker in self._workers):
            dead = [worker for worker in self._workers if not worker.process.is_alive()]
            if dead or time.monotonic() > deadline:
                raise SettingError("Workers do not get ready; the lines above may say why. Set fewer of them.")
            self._listen()

    def watch(self) -> None:
        """For ever: replace workers that died, take up a model that has changed."""
        while True:
            self._attend()
            if self._watched.have_changed():
                self._reload()

    def stop(self) -> None:
        """Have every worker finish what it has; none outlives the time that it has for it."""
        deadline = time.monotonic() + self._settings.stop_seconds + 2
        admit_no_more(self._listener)
        self._listener.close()
        for worker in self._workers:
            worker.orders.close()
        for worker in self._workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                logger.warning("Worker %d did not stop in time.", worker.process.pid)
                worker.process.kill()

    def _listen(self) -> None:
        """For a moment, or until a worker says something or dies."""
        signs: list[Connection | int] = []
        for worker in self._workers:
            signs += [worker.orders, worker.process.sentinel]
        wait(signs, TICK)
        for worker in self._workers:
            worker.listen()

    def _attend(self) -> None:
        self._listen()
        for index, worker in enumerate(self._workers):
            if not worker.process.is_alive():
                self._workers[index] = self._replace(worker, index)

    def _new_worker(self, number: int) -> Worker:
        return Worker(self._listener, self._settings, self._loads, number)

    def _replace(self, dead: Worker, number: int) -> Worker:
        logger.warning("Worker %d died (%s); another takes its place.", dead.process.pid, dead.process.exitcode)
        _forget(dead.process.pid)
        try:
            worker = self._new_worker(number)
        except OSError as error:  # no memory, no file numbers: perhaps a second later
            logger.error("It cannot be started (%s).", error.strerror)
            time.sleep(TICK)
            return dead
        dead.orders.close()
        worker.give(self._model)
        return worker

    def _reload(self) -> None:
        try:
            with verification(self._settings.model_path, nice=5) as checked:
                while not checked.done():
                    self._attend()
                model = checked.result()
        except Exception as error:  # whatever befalls the check, the server goes on
            reason = error if isinstance(error, DeXpressionError) else f"Its check failed ({type(error).__name__})."
            logger.error("The new model is not used; the one before answers on. %s", reason)
            return
        if model == self._model:
            return
        self._model = model
        for worker in self._workers:
            worker.give(model)
        logger.info("Answers come from the model %s now.", model[1].sha256[:12])


class ModelFiles:
    """The files of an export: whether they were written again since they were last asked about."""

    def __init__(self, learner_path: Path) -> None:
        self._paths = (learner_path, manifest_path(learner_path), learner_path.with_name(ENGINE_FILE))
        self._checked = self._seen = self._stamps()
        self._asked = False
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, self._ask)

    def have_changed(self) -> bool:
        """True once they differ from before and have stood still since the last look, or when SIGHUP asked."""
        stamps, before = self._stamps(), self._seen
        self._seen = stamps
        if self._asked or (stamps == before and stamps != self._checked):
            self._asked, self._checked = False, stamps
            return True
        return False

    def _ask(self, _signal: int, _frame: FrameType | None) -> None:
        self._asked = True

    def _stamps(self) -> list[tuple[int, int] | None]:
        stamps: list[tuple[int, int] | None] = []
        for path in self._paths:
            try:
                facts = path.stat()
                stamps.append((facts.st_mtime_ns, facts.st_size))
            except OSError:
                stamps.append(None)
        return stamps


@contextlib.contextmanager
def verification(learner_path: Path, nice: int = 0) -> Iterator[Future[Model]]:
    """`verify_export` in a process of its own: torch's memory goes with it."""
    with ProcessPoolExecutor(1, PROCESSES) as executor:
        yield executor.submit(check, learner_path, nice)


@contextlib.contextmanager
def _shared_metrics() -> Iterator[None]:
    """A folder for the files through which prometheus_client adds workers up; in memory, where the system has that."""
    memory = Path("/dev/shm")  # noqa: S108  # the folder in it has a name that nobody can guess
    has_memory = os.access(memory, os.W_OK)
    with (
        tempfile.TemporaryDirectory(prefix=METRICS, dir=memory if has_memory else None) as folder,
        Path(folder, "lock").open("w") as lock,
    ):
        if has_memory:
            _lock(lock)
            _remove_leftovers(memory)
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        yield


def _lock(file: IO[str]) -> None:
    """For as long as this process lives; raises OSError where another one that lives has it."""
    import fcntl

    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _remove_leftovers(memory: Path) -> None:
    """What servers that were killed left there: nobody else gives that memory back."""
    for path in memory.glob(f"{METRICS}*/lock"):
        with contextlib.suppress(OSError), path.open("w") as lock:
            _lock(lock)
            shutil.rmtree(path.parent)


def _forget(pid: int | None) -> None:
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(pid)  # type: ignore[no-untyped-call]


def _stop(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(0)
