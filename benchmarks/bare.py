"""Measure the pipeline without HTTP: `Predictor.predict` of picture bytes, in separate processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from statistics import median
from threading import BrokenBarrierError
from time import perf_counter
from typing import Any


def measure_bare(model: Path, contents: Sequence[bytes], processes: int, seconds: float) -> tuple[float, float]:
    """Return the predictions a second of all processes together, and the median milliseconds of one prediction."""
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(processes)
    with context.Pool(processes, _load, (model, start)) as pool:
        times = pool.starmap(_predict, [(contents, seconds)] * processes, chunksize=1)
    return sum(map(len, times)) / seconds, 1000 * median(time for process_times in times for time in process_times)


def _load(model: Path, start: Any) -> None:
    from dexpression.artifact.manifest import load_onnx_model
    from dexpression.faces import FaceDetector
    from dexpression.prediction import Predictor

    # One thread each: there is one process a core, and more threads would compete for the cores.
    globals().update(
        predictor=Predictor.from_onnx_model(load_onnx_model(model), FaceDetector.load(threads=1)), start=start
    )


def _predict(contents: Sequence[bytes], seconds: float) -> list[float]:
    """Return the seconds of each prediction.

    All processes start together; raises RuntimeError if one process was given two of the tasks.
    """
    predictor, start = globals()["predictor"], globals()["start"]
    predictor.predict(contents[0])
    try:
        start.wait(timeout=60)
    except BrokenBarrierError as error:
        raise RuntimeError("The processes did not start together.") from error
    times, end = [], perf_counter() + seconds
    for content in cycle(contents):
        started = perf_counter()
        predictor.predict(content)
        times.append(perf_counter() - started)
        if started + times[-1] >= end:
            break
    return times
