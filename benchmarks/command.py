"""Processor time of commands: `predict` and a start of the server, beside the same with the learner in PyTorch.

`python -W ignore -m benchmarks.command`. The commands take turns, so that a busy machine slows all alike.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

from PIL import Image
from skimage.data import astronaut

from benchmarks.servers import our_servers, started

ROUNDS = 5
COMPARE = "from dexpression.artifact.verification import verify_export; verify_export('model')"


def predict(model: str, photo: Path) -> None:
    """Predict one photo."""
    command = [sys.executable, "-m", "dexpression", "predict", "--model", model, str(photo)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603  # our own command


def start_and_stop(folder: Path) -> None:
    """Start the server, and stop it when it is ready."""
    with started(our_servers(Path("model"))[0], folder):
        pass


def compare() -> None:
    """Compare the ONNX model with its learner, as a start did before the server was ready."""
    subprocess.run([sys.executable, "-W", "ignore", "-c", COMPARE], check=True)  # noqa: S603


def processor_seconds(action: Callable[[], None]) -> float:
    """The processor time, user and system, of all processes that an action starts and waits for."""
    before = os.times()
    action()
    after = os.times()
    return after.children_user - before.children_user + after.children_system - before.children_system


def main() -> None:
    """Print the medians, and the ratio of each pair."""
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder, "photo.jpg")
        Image.fromarray(astronaut()).save(photo)
        actions: list[Callable[[], None]] = [
            lambda: predict("model", photo),
            lambda: predict("model/dexpression.safetensors", photo),
            lambda: start_and_stop(Path(folder)),
            compare,
        ]
        rounds = [[processor_seconds(action) for action in actions] for _ in range(1 + ROUNDS)][1:]
    onnx, learner, start, comparison = (median(seconds) for seconds in zip(*rounds, strict=True))
    print(f"predict: ONNX model {onnx:.2f} s, learner {learner:.2f} s, ratio {onnx / learner:.3f}")
    print(f"server until it is ready, and its stop: {start:.2f} s; a comparison with the learner: {comparison:.2f} s")


if __name__ == "__main__":
    main()
