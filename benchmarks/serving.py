"""Compare our server with others that serve the same network: `pipenv run bench`; see README.md.

Servers take turns, round by round, so that other load on the machine affects all of them; quote the ratios.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

from benchmarks.bare import measure_bare
from benchmarks.callers import Request, build_upload, measure_load
from benchmarks.pictures import cut_crops, paste_portraits, tile_portraits
from benchmarks.results import CALLER_COUNTS, FRAMES, HIGH_COUNT, MAIN_COUNT, OURS, Results
from benchmarks.servers import Server, install_peers, servers, started
from dexpression.artifact.export import load_exported
from dexpression.artifact.quantisation import to_onnx
from dexpression.labels import FIVE
from dexpression.prediction import Predictor

MODEL = Path("model")
LOAD_LEARNER = f"import pathlib, dexpression.artifact.export as a; a.load_exported(pathlib.Path({str(MODEL)!r}))"


class Bench:
    """The pictures to send, the correct answers to them, and the results so far."""

    def __init__(self, seconds: float, folder: Path) -> None:
        self.seconds, self.folder, self.results = seconds, folder, Results()
        self.servers = servers(MODEL.resolve(), folder / "network.onnx")
        self.predictor = Predictor.load(MODEL)
        self.crops, self.frames = cut_crops(), paste_portraits(640, 480, count=8)
        self.our_labels, self.frame_labels = self._read(self.crops), self._read(self.frames)
        self.peer_labels = _write_network(folder / "network.onnx", self.crops)

    def _read(self, contents: Sequence[bytes]) -> list[str]:
        return [self.predictor.predict(content).among(FIVE).emotion or "no face" for content in contents]

    def run_server(self, server: Server, caller_counts: Sequence[int] = CALLER_COUNTS) -> None:
        """Start a server, put it under load, measure its memory, and stop it."""
        name, labels = server.name, self.our_labels if server.is_ours else self.peer_labels
        with started(server, self.folder) as running:
            for callers in caller_counts:
                load = measure_load(running.port, _requests(server.path, self.crops, labels), callers, self.seconds)
                self.results.loads[name, callers].append(load)
            if name == OURS and MAIN_COUNT in caller_counts:
                requests = _requests(server.path, self.frames, self.frame_labels)
                self.results.loads[FRAMES, MAIN_COUNT].append(
                    measure_load(running.port, requests, MAIN_COUNT, self.seconds)
                )
            self.results.numbers[name].append(running.seconds)
            self.results.memory[name] = running.memory()

    def run_bare(self) -> None:
        """Measure without a server: the pipeline, loading the learner, a large photo, and a picture of nine faces."""
        numbers, cores, [photo] = self.results.numbers, os.cpu_count() or 1, paste_portraits(4000, 3000)
        one, nine = tile_portraits(1), tile_portraits(9)
        for name, contents, processes in (
            ("crop", self.crops, 1),
            ("crops", self.crops, cores),
            ("frames", self.frames, cores),
        ):
            rate, p50 = measure_bare(MODEL, contents, processes, self.seconds)
            numbers[f"{name}, rate"].append(rate)
            numbers[f"{name}, p50"].append(p50)
        for _ in range(5):
            numbers["photo"].append(_time(lambda: self.predictor.predict(photo)))
            numbers["frame"].append(_time(lambda: self.predictor.predict(self.frames[0])))
            numbers["one face"].append(_time(lambda: self.predictor.predict(one)))
            numbers["nine faces"].append(_time(lambda: self.predictor.predict(nine)))
        load = [sys.executable, "-W", "ignore", "-c", LOAD_LEARNER]
        numbers["learner"].append(_time(lambda: subprocess.run(load, check=True)))  # noqa: S603  # the command is fixed


def _write_network(path: Path, crops: Sequence[bytes]) -> list[str]:
    """Write the float32 ONNX model, with its labels in the metadata, and return its labels of the crops."""
    learner, manifest = load_exported(MODEL)
    model = to_onnx(learner, manifest.image_size)
    model.metadata_props.add(key="labels", value=" ".join(manifest.labels))
    path.write_bytes(model.SerializeToString())
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(crop)).convert("L")) for crop in crops])[:, None]
    [probabilities] = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(
        manifest.readings[:1], {"pixels": pixels}
    )
    return [manifest.labels[index] for index in probabilities.argmax(axis=1)]


def _requests(path: str, contents: Sequence[bytes], labels: Sequence[str]) -> list[Request]:
    return [
        Request(build_upload(path, content, f"{number}.jpg"), b'"%b"' % label.encode())
        for number, (content, label) in enumerate(zip(contents, labels, strict=True))
    ]


def _time(function: Callable[[], object]) -> float:
    """Call the function, and return the seconds that it took."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main() -> None:
    """Measure, print both tables and draw the figure."""
    parser = argparse.ArgumentParser(description="Compare our server with others that serve the same network.")
    parser.add_argument("--seconds", type=float, default=5.0, help="duration of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="measure only servers whose names begin so, or bare")
    parser.add_argument("--figure", type=Path, default=Path("imgs/serving.png"))
    options = parser.parse_args()
    install_peers()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options.seconds, Path(folder))
        prefixes = tuple(options.only or [""])
        chosen = [server for server in bench.servers if server.name.startswith(prefixes)]
        for _ in range(options.rounds):
            if "bare".startswith(prefixes):
                bench.run_bare()
            for server in chosen:
                bench.run_server(server)
        best = bench.results.best_peer()
        for _ in range(options.rounds):
            for server in chosen:
                if server.is_ours or server.name == best:
                    bench.run_server(server, [HIGH_COUNT])
    print(bench.results.report())
    bench.results.draw().savefig(options.figure, dpi=110)


if __name__ == "__main__":
    main()
