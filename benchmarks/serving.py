"""Our server beside others that serve the same network: `PYTHONPATH=. python benchmarks/serving.py`; see README.md.

Servers take turns, round by round, so that a busy machine is busy for all of them; quote the ratios.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np
import onnxruntime
from matplotlib.figure import Figure

from benchmarks.bare import measure_bare
from benchmarks.callers import Load, Question, ask_with_file, measure_load
from benchmarks.pictures import CROP, cut_crops, paste_portraits
from benchmarks.servers import Running, Server, install_peers, servers, started
from dexpression.artifact import load_exported
from dexpression.labels import FIVE
from dexpression.picture import read_picture, to_grey
from dexpression.prediction import Predictor
from dexpression.quantisation import to_onnx

OURS, STUDENT = "DeXpression", "student project"
LEARNER = Path("model/dexpression.pkl")
ENGINE = LEARNER.with_suffix(".onnx")  # what our server answers with
CALLERS, MANY, CROWD = (1, 8), 32, 256
IMPORT = f"import pathlib, dexpression.artifact as a; a.load_exported(pathlib.Path({str(LEARNER)!r}))"


@dataclass
class Seen:
    """All rounds of one server."""

    loads: dict[int, list[Load]] = field(default_factory=lambda: defaultdict(list))
    ready: list[float] = field(default_factory=list)  # seconds
    memory: list[int] = field(default_factory=list)  # MB a process, after load

    def median(self, callers: int, fact: Callable[[Load], float]) -> float:
        return median(fact(load) for load in self.loads[callers]) if self.loads[callers] else float("nan")

    def rate(self, callers: int = MANY) -> float:
        return self.median(callers, lambda load: load.rate)


@dataclass(frozen=True)
class Target:
    """`measured` is to be at least the bound, or else at most."""

    name: str
    measured: float
    bound: float
    at_least: bool = True

    def row(self) -> str:
        if np.isnan(self.measured):
            return f"| {self.name} | {self.bound:g} | | not measured |"
        met = self.measured >= self.bound if self.at_least else self.measured <= self.bound
        missed = f"missed by {abs(self.measured - self.bound):.2f}"
        sign = "≥" if self.at_least else "≤"
        return f"| {self.name} | {sign} {self.bound:g} | {self.measured:.2f} | {'met' if met else missed} |"


class Bench:
    """Rounds of everything, and what came of them."""

    def __init__(self, seconds: float, folder: Path) -> None:
        self.seconds, self.folder = seconds, folder
        self.crops, self.frames = cut_crops(), paste_portraits(640, 480, 8)
        learner, manifest = load_exported(LEARNER)
        model = to_onnx(learner, manifest.image_size)
        model.metadata_props.add(key="labels", value=" ".join(manifest.labels))
        network = folder / "network.onnx"
        network.write_bytes(model.SerializeToString())
        self.servers = servers(LEARNER.resolve(), network)
        self.predictor = Predictor.load(ENGINE)
        self.ours = [self._our_label(crop) for crop in self.crops]
        self.theirs = _read_labels(network, manifest.labels, self.crops)
        self.frame_labels = [self._our_label(frame) for frame in self.frames]
        self.seen: dict[str, Seen] = defaultdict(Seen)
        self.frame_loads, self.times = Seen(), defaultdict[str, list[float]](list)

    def _our_label(self, content: bytes) -> str:
        label = self.predictor.predict(content).among(FIVE).emotion
        assert label is not None, "a picture of the benchmark has no face"
        return label

    def run_round(self, server: Server) -> None:
        """Start it, load it, look at its memory, stop it."""
        with started(server, self.folder) as running:
            self.seen[server.name].ready.append(running.seconds)
            self._load(server, running, (*CALLERS, MANY))
            if server.name == OURS:
                questions = _questions("/", self.frames, self.frame_labels)
                self.frame_loads.loads[MANY].append(measure_load(running.port, questions, MANY, self.seconds))

    def run_crowd(self, server: Server) -> None:
        with started(server, self.folder) as running:
            self._load(server, running, (CROWD,))

    def _load(self, server: Server, running: Running, crowds: Sequence[int]) -> None:
        labels = self.ours if server.name == OURS else self.theirs
        questions, seen = _questions(server.path, self.crops, labels), self.seen[server.name]
        for callers in crowds:
            seen.loads[callers].append(measure_load(running.port, questions, callers, self.seconds))
        seen.memory = running.memory()

    def run_bare(self) -> None:
        """The pipeline without a server, the start without one, and a large photo beside a frame."""
        cores = os.cpu_count() or 1
        for name, contents, processes in (("alone", self.crops, 1), ("crops", self.crops, cores), ("frames", self.frames, cores)):
            rate, p50 = measure_bare(ENGINE, contents, processes, self.seconds)
            self.times[name + " rate"].append(rate)
            self.times[name + " p50"].append(p50)
        self.times["import"].append(_time(lambda: subprocess.run([sys.executable, "-c", IMPORT], check=True)))  # noqa: S603
        [photo] = paste_portraits(4000, 3000)
        for _ in range(5):
            self.times["photo"].append(_time(lambda: self.predictor.predict(photo)))
            self.times["frame"].append(_time(lambda: self.predictor.predict(self.frames[0])))

    def peers(self) -> list[str]:
        return [name for name in self.seen if name not in (OURS, STUDENT)]

    def best_peer(self) -> str | None:
        return max(self.peers(), key=lambda name: self.seen[name].rate(), default=None)

    def targets(self) -> list[Target]:
        ours, best, times = self.seen[OURS], self.best_peer(), {key: median(some) for key, some in self.times.items()}
        time_of, rate, nan = (lambda key: times.get(key, float("nan"))), ours.rate(), float("nan")
        p50 = ours.median(MANY, lambda load: load.p50)
        wrong = sum(load.wrong for seen in (ours, self.frame_loads) for some in seen.loads.values() for load in some)
        return [
            Target(f"rate at 32 callers, by the best peer's ({best})", rate / self.seen[best].rate() if best else nan, 1.5),
            Target("rate at 32 callers, by the student project's", rate / self.seen[STUDENT].rate(), 10),
            Target("rate at 32 callers, by the bare pipeline's (stretch: 0.7)", rate / time_of("crops rate"), 0.5),
            Target("p99 by p50 at 32 callers", ours.median(MANY, lambda load: load.p99) / p50, 3, at_least=False),
            Target("p50 of 1 caller less the bare pipeline's, ms", ours.median(1, lambda load: load.p50) - time_of("alone p50"), 1, at_least=False),
            Target("640x480 frames at 32 callers, by the bare pipeline's", self.frame_loads.rate() / time_of("frames rate"), 0.6),
            Target("time of a 12-megapixel photo by a 640x480 frame's", time_of("photo") / time_of("frame"), 4, at_least=False),
            Target("rate at 256 callers, by that at 32", ours.rate(CROWD) / rate, 0.9),
            Target("seconds until ready, by importing torch and loading the learner", (median(ours.ready) if ours.ready else nan) / time_of("import"), 1.5, at_least=False),
            Target("wrong answers of ours", wrong, 0, at_least=False),
        ]
