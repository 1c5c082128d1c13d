"""Our server beside others that serve the same network: `PYTHONPATH=. python benchmarks/serving.py`; see README.md.

Servers take turns, round by round, so that a busy machine is busy for all of them; quote the ratios.
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
from benchmarks.callers import Question, ask_with_file, measure_load
from benchmarks.pictures import cut_crops, paste_portraits, tile_portraits
from benchmarks.results import CALLERS, CROWD, FRAMES, MANY, OURS, Results
from benchmarks.servers import Server, install_peers, servers, started
from dexpression.artifact.export import load_exported
from dexpression.artifact.quantisation import to_onnx
from dexpression.labels import FIVE
from dexpression.prediction import Predictor

LEARNER = Path("model/dexpression.pkl")
ENGINE = LEARNER.with_suffix(".onnx")  # what our server answers with
LOAD_LEARNER = f"import pathlib, dexpression.artifact.export as a; a.load_exported(pathlib.Path({str(LEARNER)!r}))"


class Bench:
    """What is sent, the right answers to it, and the results so far."""

    def __init__(self, seconds: float, folder: Path) -> None:
        self.seconds, self.folder, self.results = seconds, folder, Results()
        self.servers = servers(LEARNER.resolve(), folder / "network.onnx")
        self.predictor = Predictor.load(ENGINE)
        self.crops, self.frames = cut_crops(), paste_portraits(640, 480, count=8)
        self.our_labels, self.frame_labels = self._read(self.crops), self._read(self.frames)
        self.their_labels = _write_network(folder / "network.onnx", self.crops)

    def _read(self, contents: Sequence[bytes]) -> list[str]:
        return [self.predictor.predict(content).among(FIVE).emotion or "no face" for content in contents]

    def run_server(self, server: Server, crowds: Sequence[int] = CALLERS) -> None:
        """Start it, put it under load, look at its memory, stop it."""
        name, labels = server.name, self.our_labels if server.name == OURS else self.their_labels
        with started(server, self.folder) as running:
            for callers in crowds:
                load = measure_load(running.port, _questions(server.path, self.crops, labels), callers, self.seconds)
                self.results.loads[name, callers].append(load)
            if name == OURS and MANY in crowds:
                questions = _questions(server.path, self.frames, self.frame_labels)
                self.results.loads[FRAMES, MANY].append(measure_load(running.port, questions, MANY, self.seconds))
            self.results.figures[name].append(running.seconds)
            self.results.memory[name] = running.memory()

    def run_bare(self) -> None:
        """The pipeline without a server, loading without one, and a large photo beside a frame."""
        figures, cores, [photo] = self.results.figures, os.cpu_count() or 1, paste_portraits(4000, 3000)
        one, nine = tile_portraits(1), tile_portraits(9)
        for name, contents, processes in (
            ("crop", self.crops, 1),
            ("crops", self.crops, cores),
            ("frames", self.frames, cores),
        ):
            rate, p50 = measure_bare(ENGINE, contents, processes, self.seconds)
            figures[f"{name}, rate"].append(rate)
            figures[f"{name}, p50"].append(p50)
        for _ in range(5):
            figures["photo"].append(_time(lambda: self.predictor.predict(photo)))
            figures["frame"].append(_time(lambda: self.predictor.predict(self.frames[0])))
            figures["one face"].append(_time(lambda: self.predictor.predict(one)))
            figures["nine faces"].append(_time(lambda: self.predictor.predict(nine)))
        load = [sys.executable, "-W", "ignore", "-c", LOAD_LEARNER]
        figures["learner"].append(_time(lambda: subprocess.run(load, check=True)))  # noqa: S603  # our own words


def _write_network(path: Path, crops: Sequence[bytes]) -> list[str]:
    """The float32 ONNX file, its labels in its metadata, and what it answers to these crops."""
    learner, manifest = load_exported(LEARNER)
    model = to_onnx(learner, manifest.image_size)
    model.metadata_props.add(key="labels", value=" ".join(manifest.labels))
    path.write_bytes(model.SerializeToString())
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(crop)).convert("L")) for crop in crops])[:, None]
    [probabilities] = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(
        None, {"pixels": pixels}
    )
    return [manifest.labels[index] for index in probabilities.argmax(axis=1)]


def _questions(path: str, contents: Sequence[bytes], labels: Sequence[str]) -> list[Question]:
    return [
        Question(ask_with_file(path, content, f"{number}.jpg"), b'"%b"' % label.encode())
        for number, (content, label) in enumerate(zip(contents, labels, strict=True))
    ]


def _time(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    """Print both tables, draw the figure."""
    parser = argparse.ArgumentParser(description="Our server beside others that serve the same network.")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="servers whose names begin so, or bare")
    parser.add_argument("--figure", type=Path, default=Path("imgs/serving.png"))
    options = parser.parse_args()
    install_peers()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options.seconds, Path(folder))
        wanted = tuple(options.only or [""])
        chosen = [server for server in bench.servers if server.name.startswith(wanted)]
        for _ in range(options.rounds):
            if "bare".startswith(wanted):
                bench.run_bare()
            for server in chosen:
                bench.run_server(server)
        best = bench.results.best_peer()
        for _ in range(options.rounds):
            for server in chosen:
                if server.name in (OURS, best):
                    bench.run_server(server, [CROWD])
    print(bench.results.report())
    bench.results.draw().savefig(options.figure, dpi=110)


if __name__ == "__main__":
    main()
