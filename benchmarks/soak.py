"""Leave the server under load and check that nothing grows: `pipenv run soak [--minutes 10]`.

32 callers send crops and frames without a pause. Every ten seconds, memory, open files, threads and p99 are measured.
Prints their slopes. Exits with 1 if one of them grows, an answer is wrong or a request fails.
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

from benchmarks.callers import Load, Request, build_upload, measure_load
from benchmarks.pictures import cut_crops, paste_portraits
from benchmarks.servers import Running, servers, started
from dexpression.labels import FIVE
from dexpression.prediction import Predictor

MODEL = Path("model")
CALLERS, SECONDS = 32, 10.0
WARM_UP = 0.2  # share of the samples that is left out: pools and the memory allocator still grow
# Largest growth an hour that counts as noise in a run of ten minutes; a leak of a kilobyte a request would be
# a thousand times as much.
MAX_GROWTH = {"memory (MB)": 30.0, "open files": 20.0, "threads": 5.0, "p99 (ms)": 100.0}


@dataclass(frozen=True)
class Sample:
    """One look at the server, all its processes together."""

    memory: float  # resident, MB
    files: int
    threads: int
    p99: float  # milliseconds


def main() -> None:
    """Run the test, print the table, and exit with 1 if it failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    end = monotonic() + 60 * parser.parse_args().minutes
    requests = _requests()
    samples, moments, loads = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        [ours, *_] = servers(MODEL.resolve(), Path(folder, "none"))
        with started(ours, Path(folder)) as running:
            while monotonic() < end:
                load = measure_load(running.port, requests, CALLERS, SECONDS, warm_up=0.5)
                loads.append(load)
                samples.append(_take_sample(running, load.p99))
                moments.append(monotonic())
    failures = _report(moments, samples, loads)
    if failures:
        sys.exit("\n".join(failures))


def _requests() -> list[Request]:
    """A frame after every fifteen crops, so that crops and frames take about half of the processor time each."""
    predictor = Predictor.load(MODEL)
    crops, frames = cut_crops(60), paste_portraits(640, 480, count=4)
    rows = [[*crops[15 * row : 15 * row + 15], frame] for row, frame in enumerate(frames)]
    return [
        Request(build_upload("/", content, "face.jpg"), f'"{predictor.predict(content).among(FIVE).emotion}"'.encode())
        for row in rows
        for content in row
    ]


def _take_sample(running: Running, p99: float) -> Sample:
    processes = running.processes()
    statuses = [(process / "status").read_text().split() for process in processes]
    resident = sum(int(words[words.index("VmRSS:") + 1]) for words in statuses) / 1000
    threads = sum(int(words[words.index("Threads:") + 1]) for words in statuses)
    return Sample(resident, sum(1 for process in processes for _ in (process / "fd").iterdir()), threads, p99)


def _report(moments: Sequence[float], samples: Sequence[Sample], loads: Sequence[Load]) -> list[str]:
    """Print the table, and return a sentence for each failure; an empty list if there is none."""
    first = int(WARM_UP * len(samples))
    hours = (np.array(moments[first:]) - moments[first]) / 3600
    values = np.array([astuple(sample) for sample in samples[first:]])
    slopes = np.polyfit(hours, values, 1)[0] if len(hours) > 2 else np.zeros(len(MAX_GROWTH))
    print("| | first | last | growth an hour | allowed |\n|---|---|---|---|---|")
    for (name, allowed), (begin, *_, last), slope in zip(MAX_GROWTH.items(), values.T, slopes, strict=True):
        print(f"| {name} | {begin:.1f} | {last:.1f} | {slope:+.1f} | {allowed:+.1f} |")
    wrong = sum(load.wrong for load in loads)
    statuses = sum((load.by_status for load in loads), start=type(loads[0].by_status)())
    print(f"\n{statuses.total()} answers by status: {dict(statuses)}; {wrong} wrong.")
    failures = [
        f"{name} grows by {slope:.1f} an hour."
        for (name, allowed), slope in zip(MAX_GROWTH.items(), slopes, strict=True)
        if slope > allowed
    ]
    if wrong or statuses.keys() != {200}:
        failures.append("Answers were wrong, or requests failed.")
    return failures


if __name__ == "__main__":
    main()
