"""What the machine could answer if HTTP cost nothing: `Predictor.predict` of bytes, in processes of their own."""

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
    """Answers a second of all together, and the median milliseconds of one."""
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(processes)
    with context.Pool(processes, _load, (model, start)) as pool:
        times = pool.starmap(_predict, [(contents, seconds)] * processes, chunksize=1)
    return sum(map(len, times)) / seconds, 1000 * median(time for some in times for time in some)


def _load(model: Path, start: Any) -> None:
    from dexpression.artifact.manifest import load_onnx_model
    from dexpression.faces import FaceDetector
    from dexpression.prediction import Predictor

    # One thread each: there is a process a core, and more threads would fight over them.
    globals().update(
        predictor=Predictor.from_onnx_model(*load_onnx_model(model), FaceDetector.load(threads=1)), start=start
    )


def _predict(contents: Sequence[bytes], seconds: float) -> list[float]:
    """How long each took; the processes begin together, and one that was given two turns is found out."""
    predictor, start = globals()["predictor"], globals()["start"]
    predictor.predict(contents[0])
    try:
        start.wait(timeout=60)
    except BrokenBarrierError as error:
        raise RuntimeError("The processes did not begin together.") from error
    times, end = [], perf_counter() + seconds
    for content in cycle(contents):
        began = perf_counter()
        predictor.predict(content)
        times.append(perf_counter() - began)
        if began + times[-1] >= end:
            break
    return times
