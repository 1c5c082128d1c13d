"""Processor time of the command `predict` for one photo: by the ONNX model, and by the learner in PyTorch.

`python -W ignore -m benchmarks.command`. The two take turns, so that a busy machine slows both alike.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from PIL import Image
from skimage.data import astronaut

MODELS = {"ONNX model": "model", "learner": "model/dexpression.safetensors"}
ROUNDS = 5


def processor_seconds(model: str, photo: Path) -> float:
    """Run `predict` once; returns the processor time of the process in seconds, user and system."""
    before = os.times()
    command = [sys.executable, "-m", "dexpression", "predict", "--model", model, str(photo)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603  # our own command
    after = os.times()
    return after.children_user - before.children_user + after.children_system - before.children_system


def main() -> None:
    """Print the median of each, and their ratio."""
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder, "photo.jpg")
        Image.fromarray(astronaut()).save(photo)
        rounds = [[processor_seconds(model, photo) for model in MODELS.values()] for _ in range(1 + ROUNDS)][1:]
    for name, seconds in zip(MODELS, zip(*rounds, strict=True), strict=True):
        print(f"{name}: {median(seconds):.2f} s")
    print(f"ratio: {median(onnx / learner for onnx, learner in rounds):.3f}")


if __name__ == "__main__":
    main()
