"""The app on Ray Serve: it answers as our server does, and loses no request but those of a machine that fails."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.cluster.conftest import FACE
from tests.support.ray_server import RayServer
from tests.support.server import REQUEST_SECONDS, ROOT, Server, sha256
from tests.support.web import MULTIPART, multipart

needs_ray = pytest.mark.skipif(
    find_spec("ray") is None or sys.platform != "linux",
    reason="Ray is not installed, or its processes are not in /proc",
)
ID = "one-id"
FORM = multipart(FACE)
REQUESTS = {
    "one label": ("POST", "/", FORM, MULTIPART),
    "all faces": ("POST", "/v1/predict?reading=labels", FORM, MULTIPART),
    "no picture": ("POST", "/", b"text", "image/png"),
    "no file": ("POST", "/", b"", MULTIPART),
    "model": ("GET", "/v1/model", b"", ""),
    "no route": ("GET", "/nothing%20here", b"", ""),
    "no method": ("PUT", "/", b"", ""),
    "page": ("GET", "/", b"", ""),
    "ready": ("GET", "/health/ready", b"", ""),
}
PROXY = {"date", "server", "via", "content-length", "connection"}  # headers of the HTTP server, not of the app


@pytest.fixture(scope="module")
def server(light_shipped: Path) -> Iterator[RayServer]:
    with RayServer(light_shipped) as server:
        yield server


def send(server: Server, method: str, path: str, body: bytes, kind: str) -> tuple[int, dict[str, str], bytes]:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=REQUEST_SECONDS)
    connection.request(method, path, body, {"X-Request-ID": ID} | ({"Content-Type": kind} if kind else {}))
    with connection.getresponse() as response:
        given = [(name.lower(), ", ".join(sorted(value.split(", ")))) for name, value in response.getheaders()]
        headers = [header for header in given if header[0] not in PROXY]
        assert len(dict(headers)) == len(headers), "A header is sent twice."
        content = response.read()
    connection.close()
    return response.status, dict(headers), content


@pytest.mark.slow
def test_importing_the_package_needs_no_ray_and_asking_for_the_app_says_what_is_missing():
    program = "import sys; sys.modules['ray'] = None; import dexpression.cluster as cluster; cluster.app"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert "MissingExtra: Serving on Ray needs more packages, such as ray. Install: " in done.stderr


@needs_ray
@pytest.mark.slow
@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("DEXPRESSION_MODEL_PATH", "nothing", "MissingArtifact: "),
        ("DEXPRESSION_MAX_PIXELS", "many", "SettingError: DEXPRESSION_MAX_PIXELS is 'many'"),
    ],
)
def test_a_bad_setting_is_named_before_anything_is_deployed(variable, value, message, monkeypatch):
    monkeypatch.setenv(variable, value)
    program = "import dexpression.cluster as cluster; cluster.app"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert message in done.stderr.splitlines()[-1]


@needs_ray
@pytest.mark.slow
def test_replicas_answer_with_the_bytes_of_our_server(server, light_shipped):
    with Server(light_shipped, DEXPRESSION_WORKERS="1") as plain:
        for name, request in REQUESTS.items():
            assert send(server, *request) == send(plain, *request), name


@needs_ray
@pytest.mark.slow
def test_a_new_model_loses_no_request(server, light_export):
    with server.callers():
        server.wait(lambda: server.replicas_of_nodes() == [1, 1])  # of one, because so many callers need both
        server.deploy(DEXPRESSION_MODEL_PATH=str(light_export))
        deployed = len(server.seen)
        server.wait(lambda: len(server.seen) > deployed + 100)
    assert {status for status, _ in server.seen} == {200}
    assert {model for _, model in server.seen[deployed + 32 :]} == {sha256(light_export)}
    assert server.failures == []


@needs_ray
@pytest.mark.slow
def test_a_node_that_fails_loses_only_the_requests_that_it_had(server):
    from dexpression.cluster.replica import REQUESTS_AT_ONCE

    answered = len(server.seen)
    with server.callers():
        server.wait(lambda: server.replicas_of_nodes() == [1, 1] and len(server.seen) > answered + 100)
        server.remove_node()
        removed = len(server.seen)
        server.wait(lambda: len(server.seen) > removed + 200)
    lost = [status for status, _ in server.seen[answered:] if status != 200] + server.failures
    assert len(lost) <= REQUESTS_AT_ONCE
    assert {status for status, _ in server.seen[removed + 100 :]} == {200}
