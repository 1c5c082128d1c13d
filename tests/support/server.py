"""A server in processes of its own, as a user starts it, and clients that keep it busy."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest

from dexpression.artifact.manifest import Manifest, export_paths
from tests.support.faces import draw_face, encode
from tests.support.web import MULTIPART, multipart

ROOT = Path(__file__).parents[2]
MODEL_HEADER = "X-Model-SHA256"
READY = "DeXpression answers on"  # the log line of a server whose workers are all ready
# In the next log line: the end of the verification that runs after the start.
VERIFIED = re.compile("answers as its learner does|is not compared with it|not ready any more")
CANNOT_LISTEN = "Cannot listen on"
DEADLINE_SECONDS = 180.0  # for a condition that comes true at some time, also on a busy machine
REQUEST_SECONDS = 60.0  # for the answer to one request
EXIT_SECONDS = 60.0  # for a server that stops
# For a test with the fixture `model` or `server` that is not about the learner: to compare it is most of a start.
light = pytest.mark.usefixtures("light_model")


def wait_until(condition: Callable[[], object], explain: Callable[[], str] = str) -> None:
    """Check a condition until it is true; after DEADLINE_SECONDS the test fails with the text of `explain`."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"The condition is still false after {DEADLINE_SECONDS:g} s. {explain()}"
        time.sleep(0.02)


GIVEN_PORTS: set[int] = set()


def free_port() -> int:
    """Choose a port that is free now, below the range that systems use for outgoing connections.

    In that range, a client could take the port while the server is stopped, or even connect to itself. No port is given
    twice, because Ray refuses several at once that are the same, and processes of pytest-xdist have ports of their own.
    """
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 2
    while True:
        port = 10_000 + 2 * secrets.randbelow(10_000) + process
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            if port not in GIVEN_PORTS:
                GIVEN_PORTS.add(port)
                return port


def connect(url: str) -> socket.socket:
    """Open a connection for a test that writes single bytes."""
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=REQUEST_SECONDS)


def start(port: int, command: Sequence[str], max_open_files: int | None, **settings: str) -> subprocess.Popen[str]:
    """Start a server with these DEXPRESSION_* settings; each of its processes may have `max_open_files`."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("DEXPRESSION_")}
    environ = inherited | {"DEXPRESSION_PORT": str(port)} | settings
    if max_open_files is not None:
        command = ["bash", "-c", f'ulimit -n {max_open_files} && exec "$@"', "bash", *command]
    return subprocess.Popen(command, cwd=ROOT, env=environ, stderr=subprocess.PIPE, text=True)


def ask(url: str, *contents: bytes) -> tuple[int, bytes]:
    """Send a GET request, or POST `contents` as parts `file`; returns the status and the body of the answer."""
    body = multipart(*contents) if contents else None
    request = urllib.request.Request(url, body, {"Content-Type": MULTIPART})
    try:
        with urllib.request.urlopen(request, timeout=REQUEST_SECONDS) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


class StartFailed(Exception):
    """A server exited before it was ready; `status` is its exit status, and the message is its log."""

    def __init__(self, status: int, log: str) -> None:
        super().__init__(log)
        self.status = status


class Server:
    """A server with two workers, its log, and clients. It starts on entry of a `with` block and stops on exit.

    `settings` are DEXPRESSION_* variables. Without a port, each start tries free ones until it can listen. Without a
    model, it has its default one.
    """

    def __init__(
        self,
        model: Path | None = None,
        max_open_files: int | None = None,
        port: int = 0,
        command: Sequence[str] = (sys.executable, "server.py"),
        **settings: str,
    ) -> None:
        self._command, self._max_open_files = command, max_open_files
        # Requests may wait long in the queue, or a busy machine would turn slow answers into refusals.
        defaults = {
            "DEXPRESSION_WORKERS": "2",
            "DEXPRESSION_LOG": "json",
            "DEXPRESSION_QUEUE_TIMEOUT_SECONDS": f"{REQUEST_SECONDS:g}",
        }
        self._settings = defaults | ({"DEXPRESSION_MODEL_PATH": str(model)} if model else {}) | settings
        self.port = port
        self.seen: list[tuple[int, str]] = []  # status and model of each answer; threads append without a lock
        self.failures: list[str] = []  # requests of `callers` that got no answer
        self.lines: list[str] = []  # of the log, without the access log

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """The log so far, without the access log."""
        return "".join(self.lines)

    @property
    def answers(self) -> Counter[tuple[int, str]]:
        """The number of answers to `callers`, by status and model."""
        return Counter(self.seen)

    def start(self) -> None:
        """Start the server and wait until it is ready and has verified its model in full; raises StartFailed.

        After `stop`, it starts on the same port again.
        """
        chooses_port = not self.port
        while True:
            self.port = self.port or free_port()
            try:
                return self._start_once()
            except StartFailed as failure:
                if not (chooses_port and CANNOT_LISTEN in str(failure)):
                    raise
                self.port = 0  # another program has taken the port since `free_port` returned it

    def _start_once(self) -> None:
        self.lines = []
        self.process = start(self.port, self._command, self._max_open_files, **self._settings)
        self._log_reader = threading.Thread(target=self._read_log, daemon=True)
        self._log_reader.start()
        try:
            self.wait(lambda: VERIFIED.search(self.log) or self.process.poll() is not None)
            if self.process.poll() is not None:
                raise StartFailed(self.wait_for_exit(), self.log)
        except BaseException:
            self.stop()
            raise

    def _read_log(self) -> None:
        with self.process.stderr as stderr:
            for line in stderr:
                if '"route"' not in line:
                    self.lines.append(line)

    def stop(self) -> None:
        """Stop the server as its user does, and check that all its processes exit."""
        self.process.terminate()
        try:
            self.wait_for_exit()
        finally:
            self.process.kill()
            self.process.wait()
        print(f"{len(self.seen)} answered, {len(self.failures)} lost")  # pipenv run faults shows it

    def wait_for_exit(self) -> int:
        """Wait until the server and its workers have exited and the log is complete; returns the exit status."""
        status = self.process.wait(EXIT_SECONDS)
        self._log_reader.join(EXIT_SECONDS)  # every process of the server has the log open
        assert not self._log_reader.is_alive(), f"A worker still runs after {EXIT_SECONDS:g} s. {self.log}"
        return status

    def wait(self, condition: Callable[[], object]) -> None:
        """Wait until a condition is true; the test fails with the log if it stays false."""
        wait_until(condition, lambda: self.log)

    def workers(self) -> list[int]:
        """Ids of the worker processes; while a model is verified, of the verifying process too."""
        children = f"PPid:\t{self.process.pid}\n"
        return [
            int(entry.name)
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit()
            and children in read_file(entry / "status")
            and "spawn_main" in read_file(entry / "cmdline")
        ]

    def worker_counts(self) -> dict[str, int]:
        """The number of ready workers by the model that they answer with, from GET /metrics."""
        text = ask(f"{self.url}/metrics")[1].decode()
        gauges = re.findall(r'^dexpression_model_workers\{sha256="(\w+)"\} (\d+)', text, re.MULTILINE)
        return {model: int(count) for model, count in gauges if int(count)}

    def model_names(self) -> tuple[str, str]:
        """The digest of the model in the header and in the body of GET /v1/model."""
        with urllib.request.urlopen(f"{self.url}/v1/model", timeout=REQUEST_SECONDS) as response:
            return response.headers[MODEL_HEADER], json.load(response)["sha256"]

    @contextmanager
    def callers(self, pause: float = 0.0, count: int = 32) -> Iterator[None]:
        """Send requests from `count` threads, each `pause` seconds after its last answer, on one open connection."""
        done = threading.Event()
        threads = [threading.Thread(target=self._call, args=(done, pause), daemon=True) for _ in range(count)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            done.set()
            deadline = time.monotonic() + DEADLINE_SECONDS
            for thread in threads:
                thread.join(max(0.0, deadline - time.monotonic()))
            waiting = sum(thread.is_alive() for thread in threads)
            assert not waiting, f"{waiting} callers still wait for an answer after {DEADLINE_SECONDS:g} s. {self.log}"

    def _call(self, done: threading.Event, pause: float) -> None:
        body = multipart(encode(draw_face("HAPPY", 0)))
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=REQUEST_SECONDS)) as connection:
            connection.auto_open = False
            while not done.wait(pause):
                try:
                    if connection.sock is None:
                        connection.connect()
                except OSError:  # the server has stopped listening, so no request was lost
                    done.wait(0.05)
                    continue
                try:
                    connection.request("POST", "/", body, {"Content-Type": MULTIPART})
                    with connection.getresponse() as response:
                        response.read()
                    self.seen.append((response.status, response.headers.get(MODEL_HEADER, "")))
                except (OSError, HTTPException) as error:
                    self.failures.append(repr(error))
                    connection.close()


def read_file(path: Path) -> str:
    """The text of a file; empty if it cannot be read, as in /proc after the end of a process."""
    try:
        return path.read_text()
    except OSError:
        return ""


def copy_without_learner(model: Path, folder: Path) -> Path:
    """Copy the ONNX model of an export and its manifest, as the wheel has them; returns the path of the ONNX model.

    A server of them starts in a third of the time, because there is no learner to compare in PyTorch.
    """
    paths = export_paths(model)
    shutil.copy(paths.manifest, folder)
    return Path(shutil.copy(paths.onnx, folder))


def sha256(model: Path) -> str:
    """The digest that names an export, from its manifest."""
    return Manifest.read(export_paths(model).manifest).sha256
