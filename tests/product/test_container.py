"""The container: its files fit the package, its settings and each other, and its check of health. Needs no Docker."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml
from packaging.specifiers import SpecifierSet

from dexpression.settings import Settings
from tests.support.server import ROOT, free_port

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", "")  # one instruction per line
IGNORED = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
COMPOSE = (ROOT / "compose.yaml").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
STAGES = re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.MULTILINE)
COPIED = {source for sources in re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.MULTILINE) for source in sources.split()}
SERVICE = yaml.safe_load(COMPOSE)["services"]["dexpression"]


def is_sent(path: str) -> bool:
    """Whether Docker sends a file of the checkout to the build: the last pattern that fits it or a folder decides."""
    sent = True
    for pattern in IGNORED:
        is_exception, pattern = pattern.startswith("!"), pattern.removeprefix("!")
        anywhere = pattern.startswith("**/")
        shape = pattern.removeprefix("**/") if anywhere else f"/{pattern}"
        file = PurePosixPath("/", path)
        if any(part.match(shape) for part in (file, *file.parents[:-1])):
            sent = is_exception
    return sent


def test_what_is_copied_is_sent_and_nothing_else():
    sent = {top.name for top in ROOT.iterdir() if is_sent(top.name)}
    assert sent | {"model"} == COPIED  # of the model, single files are sent
    assert all((ROOT / source).exists() for source in COPIED)


def test_of_the_model_the_files_in_the_wheel_are_sent():
    in_wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    sent = {f"model/{file.name}" for file in (ROOT / "model").iterdir() if is_sent(f"model/{file.name}")}
    assert sent == set(in_wheel)


def test_what_the_wheel_is_built_from_is_sent():
    project = PROJECT["project"]
    sources = [project["readme"], *project["license-files"], PROJECT["tool"]["hatch"]["version"]["path"]]
    assert [path for path in sources if not is_sent(path)] == []


@pytest.mark.parametrize(
    "path",
    [
        ".git/config",
        "dexpression/.env",
        "dexpression/web/__pycache__/app.cpython-313.pyc",
        "model/dexpression.pkl",
        "model/new/dexpression.onnx",
        "tests/conftest.py",
    ],
)
def test_what_the_images_do_not_need_is_not_sent(path):
    assert not is_sent(path)


def test_python_is_a_version_that_the_package_supports():
    [version] = re.findall(r"^ARG PYTHON_IMAGE=python:(\d+\.\d+)-slim$", DOCKERFILE, re.MULTILINE)
    assert SpecifierSet(PROJECT["project"]["requires-python"]).contains(version)
    assert f"Programming Language :: Python :: {version}" in PROJECT["project"]["classifiers"]


def test_every_list_of_requirements_is_of_the_lock_and_has_digests():
    commands = re.findall(r"pipenv requirements (.*?)> (\w+\.txt)", DOCKERFILE)
    assert all("--hash" in options for options, _ in commands)
    categories = set(re.findall(r"--categories (\w+)", DOCKERFILE))
    assert categories <= json.loads((ROOT / "Pipfile.lock").read_text()).keys()
    installed = re.findall(r"--require-hashes --only-binary :all: --requirement /requirements/(\w+\.txt)", DOCKERFILE)
    assert sorted(installed) == sorted(name for _, name in commands)


def test_what_is_installed_without_digests_is_pipenv_and_the_wheel():
    commands = re.findall(r"pip install (?!--require-hashes)(.+?)(?= &&|$)", DOCKERFILE, re.MULTILINE)
    assert {re.sub(r"==.*", "", command).strip() for command in commands} == {"pipenv", "--no-deps /wheel/*.whl"}


def test_the_default_image_is_the_one_that_compose_starts():
    assert SERVICE["build"]["target"] == STAGES[-1]


def compose_settings(text: str) -> dict[str, str]:
    """The environment of the service; a variable without a value is taken from the caller's environment."""
    environment = yaml.safe_load(text)["services"]["dexpression"]["environment"]
    return {name: value or "of the caller" for name, value in environment.items()}


def test_every_setting_of_compose_is_known():
    assert Settings.from_env(compose_settings(COMPOSE)).log == "json"


def test_an_own_model_is_served_with_the_lines_that_are_commented_out():
    text = re.sub(r"^(\s+)# (?=DEXPRESSION_|volumes:|  - )", r"\1", COMPOSE, flags=re.MULTILINE)
    [volume] = yaml.safe_load(text)["services"]["dexpression"]["volumes"]
    assert volume.split(":") == ["./model", str(Settings.from_env(compose_settings(text)).model_path), "ro"]


def test_docker_waits_for_the_server_to_stop():
    assert int(SERVICE["stop_grace_period"].removesuffix("s")) > Settings().graceful_timeout_seconds + 2


def test_the_container_publishes_the_port_of_the_server():
    port = Settings().port
    assert re.findall(r"^EXPOSE (\d+)$", DOCKERFILE, re.MULTILINE) == [str(port)]
    assert SERVICE["ports"] == [f"127.0.0.1:{port}:{port}"]


@contextmanager
def serve_health(status: int) -> Iterator[int]:
    """Answer `GET /health/ready` with this status, and yield the port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(status if self.path == "/health/ready" else 404)

        def log_message(self, *_: Any) -> None:
            """Keep the output of the tests short."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def check_health(port: int, folder: Path) -> int:
    """Run the command of HEALTHCHECK in a folder with nothing of the checkout, and return its exit status."""
    [command] = re.findall(r"^HEALTHCHECK .*? CMD (\[.+\])$", DOCKERFILE, re.MULTILINE)
    python, *arguments = json.loads(command)
    assert python == "python"
    proxy = f"http://127.0.0.1:{free_port()}"  # Docker gives containers the proxy of its client
    environ = os.environ | {"DEXPRESSION_PORT": str(port), "HTTP_PROXY": proxy, "http_proxy": proxy}
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=environ, capture_output=True).returncode


@pytest.mark.parametrize(("status", "expected"), [(200, 0), (401, 1), (503, 1)])
def test_the_container_is_healthy_while_the_server_is_ready(status, expected, tmp_path):
    with serve_health(status) as port:
        assert check_health(port, tmp_path) == expected


def test_the_container_is_not_healthy_without_a_server(tmp_path):
    assert check_health(free_port(), tmp_path) == 1
