"""A server as a user starts it, in a process of its own, and callers who keep it busy."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest

from dexpression.artifact.manifest import Manifest
from tests.support.faces import draw_face, encode
from tests.support.web import MULTIPART, multipart

ROOT = Path(__file__).parents[2]
MODEL_HEADER = "X-Model-SHA256"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def connect(url: str) -> socket.socket:
    """A connection to be written to byte by byte."""
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=10)


def start(port: int, model: Path, files: int | None = None, **settings: str) -> subprocess.Popen[str]:
    """`files` is how many each process may have open."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("DEXPRESSION_")}
    environ = own | {"DEXPRESSION_PORT": str(port), "DEXPRESSION_MODEL_PATH": str(model)} | settings
    server = [sys.executable, "server.py"]
    command = server if files is None else ["bash", "-c", f'ulimit -n {files} && exec "$@"', "bash", *server]
    return subprocess.Popen(command, cwd=ROOT, env=environ, stderr=subprocess.PIPE, text=True)


def ask(url: str, content: bytes | None = None) -> tuple[int, bytes]:
    """GET, or POST of `content` as the part `file`."""
    body = None if content is None else multipart(content)
    request = urllib.request.Request(url, body, {"Content-Type": MULTIPART})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def wait_until_ready(url: str, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        if is_ready(url):
            return
        time.sleep(0.2)
    pytest.fail("The server did not get ready in two minutes.")


def is_ready(url: str) -> bool:
    try:
        return ask(f"{url}/health/ready")[0] == 200
    except urllib.error.URLError:
        return False


class Server:
    """Two workers, a log that can be read while they run, and callers."""

    def __init__(self, model: Path, files: int | None = None, **settings: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = start(self.port, model, files, DEXPRESSION_WORKERS="2", DEXPRESSION_LOG="json", **settings)
        self.seen: list[tuple[int, str]] = []  # of each answer, status and model; threads append without a lock
        self.failures: list[str] = []
        self.lines: list[str] = []
        self._log_reader = threading.Thread(target=self._keep_log, daemon=True)
        self._log_reader.start()
        try:
            self.wait(self._is_ready)
        except BaseException:
            self.stop()
            raise

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, self.log
        return is_ready(self.url)

    def _keep_log(self) -> None:
        with self.process.stderr as lines:
            self.lines.extend(lines)

    @property
    def answers(self) -> Counter[tuple[int, str]]:
        return Counter(self.seen)

    @property
    def log(self) -> str:
        return "".join(line for line in self.lines if '"route"' not in line)

    def workers(self) -> list[int]:
        """The processes that answer; while a model is checked, the one that does it, too."""
        children = f"PPid:\t{self.process.pid}\n"
        return [
            int(entry.name)
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit()
            and children in read_file(entry / "status")
            and "spawn_main" in read_file(entry / "cmdline")
        ]

    @contextmanager
    def callers(self, pause: float = 0.0, count: int = 32) -> Iterator[None]:
        """That many ask one after the other, on connections that they keep, `pause` seconds after each answer."""
        done = threading.Event()
        threads = [threading.Thread(target=self._call, args=(done, pause)) for _ in range(count)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            done.set()
            for thread in threads:
                thread.join()

    def _call(self, done: threading.Event, pause: float) -> None:
        body = multipart(encode(draw_face("HAPPY", 0)))
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.auto_open = False
            while not done.wait(pause):
                try:
                    if connection.sock is None:
                        connection.connect()
                except OSError:  # nobody listens (any more): no request was lost
                    time.sleep(0.05)
                    continue
                try:
                    connection.request("POST", "/", body, {"Content-Type": MULTIPART})
                    with connection.getresponse() as response:
                        response.read()
                    self.seen.append((response.status, response.headers.get(MODEL_HEADER, "")))
                except (OSError, HTTPException) as error:
                    self.failures.append(repr(error))
                    connection.close()

    def answering(self) -> int:
        """Workers that are ready, as the metrics tell."""
        counts = re.findall(r"^dexpression_model_workers\S* (\d)", ask(f"{self.url}/metrics")[1].decode(), re.MULTILINE)
        return sum(map(int, counts))

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(30)
        finally:
            self.process.kill()  # if it did not stop
        self._log_reader.join(10)
        print(f"{len(self.seen)} answered, {len(self.failures)} lost")  # pipenv run faults shows it

    def public_facts(self) -> tuple[str, str]:
        """The model, as the header and as the body of GET /v1/model name it."""
        with urllib.request.urlopen(f"{self.url}/v1/model") as response:
            return response.headers[MODEL_HEADER], json.load(response)["sha256"]

    def wait(self, condition: Callable[[], object], seconds: float = 180) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.log
            time.sleep(0.05)


def read_file(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def sha256(model: Path) -> str:
    """As its manifest says."""
    return Manifest.read(model.with_suffix(".json")).sha256
