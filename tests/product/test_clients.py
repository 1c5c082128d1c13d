"""The usual HTTP clients, each in its usual ways, get the same answer for the same picture."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.support.clients import WAYS
from tests.support.documents import comparable
from tests.support.faces import encode
from tests.support.server import REQUEST_SECONDS, Server, ask
from tests.support.tools import create_environment, install_node_packages

pytestmark = pytest.mark.slow

PYTHON_PACKAGES = ("aiohttp==3.14.5", "httpie==3.2.4", "httpx==0.28.1", "requests==2.34.2")
NODE_PACKAGES = ("axios@1.21.1",)


@pytest.fixture(scope="module")
def server(light_shipped: Path) -> Iterator[Server]:
    with Server(light_shipped) as server:
        yield server


@pytest.fixture(scope="module")
def folder(portrait: Image.Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the clients send."""
    folder, photo = tmp_path_factory.mktemp("clients"), encode(portrait, "JPEG")
    text = base64.b64encode(photo).decode()
    for name in ("photo.jpg", "face"):
        (folder / name).write_bytes(photo)
    (folder / "image.txt").write_text(text)
    (folder / "request.json").write_text(json.dumps({"image": text}))
    return folder


@pytest.fixture(scope="module")
def expected(server: Server, folder: Path) -> Any:
    status, body = ask(f"{server.url}/v1/predict", (folder / "photo.jpg").read_bytes())
    assert status == 200
    return comparable(body.decode())


@pytest.fixture(scope="module")
def python_commands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of commands of an environment with the clients for Python."""
    try:
        return create_environment(tmp_path_factory.mktemp("python"), *PYTHON_PACKAGES)
    except subprocess.SubprocessError as error:
        pytest.skip(f"{', '.join(PYTHON_PACKAGES)} cannot be installed: {error}")


@pytest.fixture(scope="module")
def node_packages(folder: Path) -> None:
    """The clients for Node, in the folder of the files."""
    try:
        install_node_packages(folder, *NODE_PACKAGES)
    except (FileNotFoundError, subprocess.SubprocessError) as error:
        pytest.skip(f"{', '.join(NODE_PACKAGES)} cannot be installed: {error}")


@pytest.fixture
def search_path(client: str, request: pytest.FixtureRequest) -> str:
    """Where the command of a client is found."""
    if client == "axios":
        request.getfixturevalue("node_packages")
    if client in ("curl", "wget", "fetch"):
        command = "node" if client == "fetch" else client
        if not shutil.which(command):
            pytest.skip(f"{command} is not installed")
        return os.environ["PATH"]
    return os.pathsep.join([str(request.getfixturevalue("python_commands")), os.environ["PATH"]])


@pytest.mark.parametrize(("client", "way"), WAYS, ids=[f"{client}: {way}" for client, way in WAYS])
def test_a_picture_gets_the_same_answer_however_a_client_sends_it(client, way, search_path, server, folder, expected):
    # Files of the user, such as .curlrc, and proxies play no part.
    own = {"URL": f"{server.url}/v1/predict", "PATH": search_path, "HOME": str(folder), "NO_PROXY": "*"}
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | own
    command = WAYS[client, way]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=REQUEST_SECONDS)
    answers = [comparable(line) for line in done.stdout.splitlines()]
    assert answers, done.stderr
    assert answers == [expected] * len(answers), done.stderr
