"""Clients that common generators make from the OpenAPI document of a real server: they compile and read a picture."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.support.server import Server
from tests.support.tools import INSTALL_SECONDS, create_environment, install_node_packages

pytestmark = pytest.mark.slow

PYTHON_PACKAGES = ("openapi-python-client==0.29.1", "httpx==0.28.1", "mypy==2.4.1")
NODE_PACKAGES = ("@types/node@20.19.25", "openapi-fetch@0.17.0", "openapi-typescript@7.13.0", "typescript@5.9.3")
TOKEN = "sesame-9"
PYTHON_PROGRAM = """
import sys
from io import BytesIO
from de_xpression_client import AuthenticatedClient
from de_xpression_client.api.pictures import predict, predict_label
from de_xpression_client.models import PredictFilesBody, PredictJsonBody, PredictLabels, ReadingAnswer, ReadingAnswers
from de_xpression_client.models import LabelAnswer, ProblemAnswer
from de_xpression_client.types import File

client = AuthenticatedClient(base_url=sys.argv[1], token="sesame-9")
with open("photo.jpg", "rb") as file:
    content = file.read()
photo = File(BytesIO(content), "photo.jpg", "image/jpeg")
one = predict.sync(client=client, body=PredictFilesBody([photo]), labels=PredictLabels.FIVE)
assert isinstance(one, ReadingAnswer)
several = predict.sync(client=client, body=PredictFilesBody([File(BytesIO(content)), File(BytesIO(content))]))
assert isinstance(several, ReadingAnswers)
label = predict_label.sync(client=client, body=File(BytesIO(content)))
assert isinstance(label, LabelAnswer)
problem = predict.sync(client=client, body=PredictJsonBody("%"))
assert isinstance(problem, ProblemAnswer)
print(one.faces[0].result.value, len(several.results), label.result.value, problem.code)
"""
TYPESCRIPT_PROGRAM = """
import createClient from "openapi-fetch";
import { readFile } from "node:fs/promises";
import type { paths } from "./interface.js";

const client = createClient<paths>({ baseUrl: process.argv[2], headers: { Authorization: "Bearer sesame-9" } });
const image = (await readFile("photo.jpg")).toString("base64");
const one = await client.POST("/v1/predict", { params: { query: { labels: "five" } }, body: { image } });
if (!one.data || !("faces" in one.data)) throw new Error(one.error?.detail);
const label = await client.POST("/", { body: { image } });
if (!label.data || !("result" in label.data)) throw new Error(label.error?.detail);
const { error } = await client.POST("/v1/predict", { body: { image: "%" } });
console.log(one.data.faces[0]?.result, label.data.result, error?.code);
"""
TYPESCRIPT_OPTIONS = ["--strict", "--noUncheckedIndexedAccess", "--module", "nodenext", "--target", "es2022"]


@pytest.fixture(scope="module")
def server(light_shipped: Path) -> Iterator[Server]:
    with Server(light_shipped, DEXPRESSION_TOKEN=TOKEN) as server:
        yield server


@pytest.fixture
def folder(portrait: Image.Image, tmp_path: Path) -> Path:
    portrait.save(tmp_path / "photo.jpg")
    return tmp_path


def run(folder: Path, *command: str | Path) -> str:
    """Run a command in a folder, with the commands that are installed there; returns what it prints."""
    places = [folder / "environment" / "bin", folder / "node_modules" / ".bin", os.environ["PATH"]]
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environ |= {"PATH": os.pathsep.join(map(str, places)), "NO_PROXY": "*"}
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_generated_python_client_is_complete_typed_and_reads_a_picture(folder, server):
    try:
        create_environment(folder / "environment", *PYTHON_PACKAGES)
    except subprocess.SubprocessError as error:
        pytest.skip(f"{', '.join(PYTHON_PACKAGES)} cannot be installed: {error}")
    address = f"{server.url}/openapi.json"
    generate = [
        "openapi-python-client",
        "generate",
        "--fail-on-warning",
        "--url",
        address,
        "--output-path",
        "generated",
    ]
    run(folder, *generate)
    (folder / "generated" / "program.py").write_text(PYTHON_PROGRAM)
    run(folder, "mypy", "--strict", "generated/program.py")
    assert run(folder, "python", "generated/program.py", server.url) == "HAPPY 2 HAPPY bad_base64\n"


def test_a_generated_typescript_client_compiles_and_reads_a_picture(folder, server):
    try:
        install_node_packages(folder, *NODE_PACKAGES)
    except (FileNotFoundError, subprocess.SubprocessError) as error:
        pytest.skip(f"{', '.join(NODE_PACKAGES)} cannot be installed: {error}")
    run(folder, "openapi-typescript", f"{server.url}/openapi.json", "--output", "interface.d.ts")
    (folder / "photo.ts").write_text(TYPESCRIPT_PROGRAM)
    run(folder, "tsc", *TYPESCRIPT_OPTIONS, "photo.ts")
    assert run(folder, "node", "photo.js", server.url) == "HAPPY HAPPY bad_base64\n"
