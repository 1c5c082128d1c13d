"""Leave the server under load and see what grows: `PYTHONPATH=. python benchmarks/soak.py [--minutes 10]`.

32 callers without pause, crops and frames by turns; every ten seconds a look at memory, open files, threads and p99.
Prints their slopes, and ends with 1 when one of them grows, an answer was wrong or a request failed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from time import monotonic

import numpy as np

from benchmarks.callers import Load, Question, ask_with_file, measure_load
from benchmarks.pictures import cut_crops, paste_portraits
from benchmarks.servers import Running, servers, started
from dexpression.labels import FIVE
from dexpression.prediction import Predictor

LEARNER = Path("model/dexpression.pkl")
CALLERS, SECONDS = 32, 10.0
WARM_UP = 0.2  # of the time: pools fill, and the allocator finds its size
# What a figure may grow by in an hour and still be called flat: noise of ten minutes, a leak of a kilobyte a request
# would be a thousand times as much.
ALLOWED = {"memory (MB)": 30.0, "open files": 20.0, "threads": 5.0, "p99 (ms)": 100.0}


@dataclass(frozen=True)
class Sample:
    memory: float  # MB, of all processes
    files: int
    threads: int
    p99: float  # milliseconds


def main() -> None:
    """Run it, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    end = monotonic() + 60 * parser.parse_args().minutes
    questions = _questions()
    samples, moments, loads = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        [ours, *_] = servers(LEARNER.resolve(), Path(folder, "none"))
        with started(ours, Path(folder)) as running:
            while monotonic() < end:
                load = measure_load(running.port, questions, CALLERS, SECONDS, warm_up=0.5)
                loads.append(load)
                samples.append(_look(running, load.p99))
                moments.append(monotonic())
    failures = _report(moments, samples, loads)
    if failures:
        sys.exit("\n".join(failures))


def _questions() -> list[Question]:
    """A frame after every fifteen crops, so that each has about half of the processor."""
    predictor = Predictor.load(LEARNER.with_suffix(".onnx"))
    crops, frames = cut_crops(60), paste_portraits(640, 480, count=4)
    rows = [[*crops[15 * row : 15 * row + 15], frame] for row, frame in enumerate(frames)]
    return [
        Question(
            ask_with_file("/", content, "face.jpg"), f'"{predictor.predict(content).among(FIVE).emotion}"'.encode()
        )
        for row in rows
        for content in row
    ]


def _look(running: Running, p99: float) -> Sample:
    processes = running.processes()
    statuses = [(process / "status").read_text().split() for process in processes]
    resident = sum(int(words[words.index("VmRSS:") + 1]) for words in statuses) / 1000
    threads = sum(int(words[words.index("Threads:") + 1]) for words in statuses)
    return Sample(resident, sum(1 for process in processes for _ in (process / "fd").iterdir()), threads, p99)


def _report(moments: Sequence[float], samples: Sequence[Sample], loads: Sequence[Load]) -> list[str]:
    """Print the table; what is not as it should be."""
    first = int(WARM_UP * len(samples))
    hours = (np.array(moments[first:]) - moments[first]) / 3600
    values = np.array([astuple(sample) for sample in samples[first:]])
    slopes = np.polyfit(hours, values, 1)[0] if len(hours) > 2 else np.zeros(len(ALLOWED))
    print("| | at first | at last | an hour | allowed |\n|---|---|---|---|---|")
    for (name, allowed), (begin, *_, last), slope in zip(ALLOWED.items(), values.T, slopes, strict=True):
        print(f"| {name} | {begin:.1f} | {last:.1f} | {slope:+.1f} | {allowed:+.1f} |")
    wrong = sum(load.wrong for load in loads)
    statuses = sum((load.by_status for load in loads), start=type(loads[0].by_status)())
    print(f"\n{statuses.total()} answers by status: {dict(statuses)}; {wrong} wrong.")
    failures = [
        f"{name} grows by {slope:.1f} an hour."
        for (name, allowed), slope in zip(ALLOWED.items(), slopes, strict=True)
        if slope > allowed
    ]
    if wrong or statuses.keys() != {200}:
        failures.append("Answers were wrong, or requests failed.")
    return failures


if __name__ == "__main__":
    main()
