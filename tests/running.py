"""A server as a user starts it, in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from conftest import MULTIPART, multipart

ROOT = Path(__file__).parent.parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def connect(url: str) -> socket.socket:
    """A connection to be written to byte by byte."""
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=10)


def start(port: int, model: Path, **settings: str) -> subprocess.Popen[str]:
    own = {key: value for key, value in os.environ.items() if not key.startswith("DEXPRESSION_")}
    environ = own | {"DEXPRESSION_PORT": str(port), "DEXPRESSION_MODEL_PATH": str(model)} | settings
    return subprocess.Popen([sys.executable, "server.py"], cwd=ROOT, env=environ, stderr=subprocess.PIPE, text=True)


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
        try:
            if ask(f"{url}/health/ready")[0] == 200:
                return
        except urllib.error.URLError:
            time.sleep(0.2)
    pytest.fail("The server did not get ready in two minutes.")
