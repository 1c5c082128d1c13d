"""Fuzzing guided by code coverage (atheris, libFuzzer): `pipenv run fuzz [--inputs 100000] [--seconds 900]`.

Each target runs in a separate process. If an input fails its check, the run ends and prints the folder that holds the
input. Make that input small and put it into a test. A run without a failure leaves no files.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Target -> its share of the inputs and of the time.
SHARES = {
    "picture": 0.35,
    "decoding_time": 0.1,
    "body": 0.3,
    "weights": 0.05,
    "onnx": 0.1,
    "manifest": 0.1,
}
KINDS = [b"multipart/form-data; boundary=cut", b"image/png", b"application/json", b"application/x-www-form-urlencoded"]
PATHS = ["/", "/v1/predict", "/?detail=full", "/?on_no_face=error&labels=seven"]
# Audit events of the interpreter that loading a learner must not cause.
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.", "socket.connect", "shutil.")

Target = Callable[[bytes], None]


def target_picture() -> Target:
    """Check that bytes give a picture within the limits, or a PictureError."""
    from dexpression.errors import PictureError
    from dexpression.picture import PixelBudget, load_picture

    def check(data: bytes) -> None:
        with contextlib.suppress(PictureError):
            picture = load_picture(data, PixelBudget(1_000_000))
            assert picture.image.mode in ("L", "RGB")
            assert 0 < picture.width * picture.height <= 1_000_000

    return check


def target_decoding_time() -> Target:
    """Check that a picture takes at most a second of processor time a megapixel; under one counts as one."""
    from dexpression.errors import PictureError
    from dexpression.picture import PixelBudget, load_picture

    def check(data: bytes) -> None:
        budget, started = PixelBudget(4_000_000), time.process_time()
        with contextlib.suppress(PictureError):
            load_picture(data, budget)
        megapixels = max(1, (4_000_000 - budget.left) / 1_000_000)
        seconds = time.process_time() - started
        assert seconds <= megapixels, f"{seconds:.1f} s for {megapixels:.1f} megapixels"

    return check


def target_body() -> Target:
    """Check that any request body is answered with 200, or with a problem document and a status below 500."""
    from dexpression.web import create_app
    from dexpression.web.service import Service
    from tests.support.web import LIMITS, PROBLEM_MEMBERS, StubPredictor

    client = create_app(Service(StubPredictor()), LIMITS).test_client()

    def check(data: bytes) -> None:
        kind, path = (data[0] if data else 0) % len(KINDS), (data[1] if len(data) > 1 else 0) % len(PATHS)
        response = client.post(PATHS[path], data=data[2:], content_type=KINDS[kind].decode())
        if response.status_code != 200:
            assert response.status_code < 500, response.text
            assert response.get_json(force=True).keys() == PROBLEM_MEMBERS

    return check


def target_weights() -> Target:
    """Check that bytes fill a network, or give an ArtifactError."""
    from dexpression.artifact.weights import fill_weights
    from dexpression.errors import ArtifactError
    from dexpression.network.architecture import DeXpression

    network = DeXpression.paper(2, image_size=16)

    def check(data: bytes) -> None:
        with contextlib.suppress(ArtifactError):
            fill_weights(network, data)

    return check


def target_onnx() -> Target:
    """Check that bytes are an ONNX model that gives probabilities for a face, or give an ArtifactError."""
    import numpy as np

    from dexpression.artifact.onnx_model import check_onnx_model
    from dexpression.engine import onnx_backend
    from dexpression.errors import ArtifactError
    from dexpression.labels import READINGS

    face = np.zeros((1, 1, 48, 48), np.uint8)

    def check(data: bytes) -> None:
        with contextlib.suppress(ArtifactError):
            checked = check_onnx_model(data, READINGS, labels=7, image_size=48)
            answers = onnx_backend(checked, threads=1)(face)
            assert [(reading, rows.shape) for reading, rows in answers.items()] == [(name, (1, 7)) for name in READINGS]

    return check


def target_manifest() -> Target:
    """Check that bytes give a manifest with public facts, or an ArtifactError."""
    from dexpression.artifact.manifest import Manifest
    from dexpression.errors import ArtifactError

    path = Path(tempfile.mkdtemp(), "dexpression.json")

    def check(data: bytes) -> None:
        path.write_bytes(data)
        with contextlib.suppress(ArtifactError):
            Manifest.read(path).public_facts()

    return check


def seeds(name: str) -> Iterator[bytes]:
    """Yield valid inputs of a target, which the fuzzer then changes."""
    from dexpression.extras import missing_libraries
    from tests.support import heic
    from tests.support.faces import encode
    from tests.support.hostile import FACE, PICTURES, SLOW
    from tests.support.web import multipart

    if name in ("picture", "decoding_time"):
        yield from PICTURES.values()
        yield from SLOW.values()
        if not missing_libraries(["pillow_heif"]):
            yield from heic.seeds()
    elif name == "body":
        content = encode(FACE)
        yield b"\0\0" + multipart(content)
        yield b"\0\1" + multipart(content, content)
        yield b"\1\2" + content
        yield b'\2\3{"image": "data:image/png;base64,iVBORw0KGgo="}'
        yield b"\3\0file=x"
    elif name == "manifest":
        yield (ROOT / "model" / "dexpression.json").read_bytes()
    elif name == "weights":
        from dexpression.artifact.weights import encode_weights
        from dexpression.network.architecture import DeXpression

        yield encode_weights(DeXpression.paper(2, image_size=16))
        yield b"\x02\0\0\0\0\0\0\0{}"
    else:
        yield _small_onnx_model()


def _small_onnx_model() -> bytes:
    """Encode a model of a few operators that is accepted as an export: the fuzzer cuts inputs off at 64 KiB."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    from dexpression.labels import READINGS

    nodes = [
        helper.make_node("Cast", ["pixels"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node(
            "Conv", ["cast", "kernels"], ["maps"], group=1, strides=[2, 2], dilations=[1, 1], pads=[1] * 4
        ),
        helper.make_node("QuantizeLinear", ["maps", "scale", "zero"], ["quantised"]),
        helper.make_node("DequantizeLinear", ["quantised", "scale", "zero"], ["restored"]),
        helper.make_node("MaxPool", ["restored"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2], pads=[0] * 4),
        helper.make_node("ReduceMean", ["pooled", "sides"], ["means"], keepdims=1),
        helper.make_node("Reshape", ["means", "flat"], ["features"], allowzero=1),
        *(helper.make_node("Softmax", ["features"], [reading], axis=1) for reading in READINGS),
    ]
    constants = {
        "kernels": np.ones((7, 1, 3, 3), np.float32), "scale": np.float32(0.1), "zero": np.uint8(0),
        "sides": np.array([2, 3]), "flat": np.array([-1, 7]),
    }  # fmt: skip
    ends = [
        helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["faces", 1, 48, 48]),
        *(helper.make_tensor_value_info(reading, TensorProto.FLOAT, ["faces", 7]) for reading in READINGS),
    ]
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "small", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    content: bytes = model.SerializeToString()
    return content


def run_target(name: str, options: list[str]) -> None:
    """Run one target in this process; libFuzzer ends the process. `options` are those of libFuzzer."""
    import atheris

    with atheris.instrument_imports(include=["dexpression", "werkzeug", "PIL", "pickle"]):
        check = globals()[f"target_{name}"]()
    atheris.Setup([sys.argv[0], *options], check)
    atheris.Fuzz()


def fuzz(inputs: int, seconds: int) -> list[str]:
    """Run all targets, and return one line for each: its name and libFuzzer's summary.

    Raises SystemExit if an input fails its check.
    """
    lines = []
    for name, share in SHARES.items():
        with tempfile.TemporaryDirectory() as folder:
            corpus = Path(folder, "corpus")
            corpus.mkdir()
            for number, seed in enumerate(seeds(name)):
                (corpus / str(number)).write_bytes(seed)
            found = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
            limits = {"runs": int(inputs * share), "max_total_time": max(1, int(seconds * share)), "timeout": 10}
            limits |= {"rss_limit_mb": 4096, "max_len": 65536, "seed": 1}
            options = [f"-{key}={value}" for key, value in limits.items()] + [f"-artifact_prefix={found}/", str(corpus)]
            command = [sys.executable, "-W", "ignore", "-m", "tests.support.fuzz", "--target", name, *options]
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=os.environ | {"TMPDIR": folder},  # libFuzzer ends the process before it could remove its files
                stderr=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                text=True,
            )
            if done.returncode:
                sys.exit(f"{done.stderr[-4000:]}\n{name}: an input failed its check. It is in {found}")
            found.rmdir()
            last = next(line for line in reversed(done.stderr.splitlines()) if line.startswith("Done"))
            lines.append(f"{name}: {last}")
            print(lines[-1], flush=True)
    return lines


def main() -> None:
    """Run all targets or, with --target, one of them in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seconds", type=int, default=900)
    parser.add_argument("--target", choices=SHARES, help=argparse.SUPPRESS)
    options, others = parser.parse_known_args()
    if options.target:
        run_target(options.target, others)
    else:
        fuzz(options.inputs, options.seconds)


if __name__ == "__main__":
    main()
