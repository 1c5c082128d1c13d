"""The clients of Triton and KServe for the Open Inference Protocol, unchanged, each in an environment of its own."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.documents import code_blocks
from tests.support.server import REQUEST_SECONDS, Server
from tests.support.tools import create_environment

pytestmark = pytest.mark.slow

TRITON = """
import numpy as np
import tritonclient.http as triton

client = triton.InferenceServerClient("localhost:9874")
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("dexpression")
assert not client.is_model_ready("nothing")
version = client.get_model_metadata("dexpression")["versions"][0]

def refusal(*arguments, **options):
    try:
        return client.infer("dexpression", *arguments, **options)
    except triton.InferenceServerException as error:
        return error.status(), error.message()

crops = triton.InferInput("crops", [2, 1, 48, 48], "UINT8")
pixels = np.zeros((2, 1, 48, 48), np.uint8)
answers = []
for binary in (True, False):
    crops.set_data_from_numpy(pixels, binary_data=binary)
    wanted = [triton.InferRequestedOutput("probabilities", binary_data=binary)]
    answer = client.infer("dexpression", [crops], model_version=version, outputs=wanted, request_id="7")
    assert answer.get_response()["id"] == "7" and answer.as_numpy("labels") is None
    answers.append(answer.as_numpy("probabilities"))
assert answers[0].shape == (2, 7) and np.allclose(*answers, atol=1e-6)
columns = client.infer("dexpression", [crops], parameters={"labels": "five"}).as_numpy("columns")
assert [name.decode() for name in columns] == ["ANGRY", "DISGUST", "FEAR", "HAPPY", "NEUTRAL"]
assert "priority" in refusal([crops], priority=1)[1]
assert refusal([crops], model_version="1")[0] == "404"
assert refusal([crops], request_compression_algorithm="gzip")[0] == "415"
assert client.is_server_live()  # on the same connection
"""
KSERVE = """
import asyncio
import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

async def check():
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
        server = "http://localhost:9874"
        assert await client.is_server_live(server) and await client.is_server_ready(server)
        assert await client.is_model_ready(server, "dexpression")
        assert not await client.is_model_ready(server, "nothing")
        pictures = InferInput("pictures", [1], "BYTES")
        pictures.set_data_from_numpy(np.array([open("photo.jpg", "rb").read()], dtype=np.object_))
        request = InferRequest("dexpression", [pictures], parameters={"binary_data_output": True})
        answer = await client.infer(server, request, model_name="dexpression")
        values = {output.name: output.as_numpy().tolist() for output in answer.outputs}
        assert values["labels"] == ["HAPPY"] and values["faces"] == [1], values
        crops = InferInput("crops", [1, 48, 48], "UINT8", data=[0] * 2304)
        try:
            await client.infer(server, InferRequest("dexpression", [crops]), model_name="dexpression")
        except httpx.HTTPStatusError as error:
            assert "[N, 1, 48, 48]" in str(error)

asyncio.run(check())
"""
CLIENTS = {"tritonclient": ("tritonclient[http]==2.73.0", TRITON), "kserve": ("kserve==0.21.0", KSERVE)}


@pytest.fixture(scope="module")
def server(light_shipped: Path) -> Iterator[Server]:
    with Server(light_shipped) as server:
        yield server


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_of_the_protocol_reads_pictures_and_crops_as_the_document_shows(client, server, portrait, tmp_path):
    package, program = CLIENTS[client]
    uses = re.compile(f"^(import|from) {client}", re.MULTILINE)
    try:
        commands = create_environment(tmp_path / "environment", package)
    except subprocess.SubprocessError as error:
        pytest.skip(f"{package} cannot be installed: {error}")
    portrait.save(tmp_path / "photo.jpg", quality=95)
    [documented] = [block.text for block in code_blocks("docs/inference-protocol.md") if uses.search(block.text)]
    assert "HAPPY" in run(commands, documented, server, tmp_path)
    run(commands, program, server, tmp_path)


def run(commands: Path, program: str, server: Server, folder: Path) -> str:
    """Run a program in an environment, with the address of the server in place of the documented one."""
    text = program.replace("localhost:9874", f"localhost:{server.port}")
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"NO_PROXY": "*"}
    command = [commands / "python", "-c", text]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=REQUEST_SECONDS)
    assert done.returncode == 0, done.stderr
    return done.stdout
