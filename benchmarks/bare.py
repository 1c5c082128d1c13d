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

import onnxruntime


def measure_bare(model: Path, contents: Sequence[bytes], processes: int, seconds: float) -> tuple[float, float]:
    """Answers a second of all together, and the median milliseconds of one."""
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(processes)
    with context.Pool(processes, _load, (model, start)) as pool:
        times = pool.starmap(_predict, [(contents, seconds)] * processes, chunksize=1)
    return sum(map(len, times)) / seconds, 1000 * median(time for some in times for time in some)


def _load(model: Path, start: Any) -> None:
    onnxruntime.InferenceSession = _one_thread(onnxruntime.InferenceSession)
    from dexpression.prediction import Predictor

    globals().update(predictor=Predictor.load(model), start=start)


def _one_thread(make: Any) -> Any:
    """Sessions of one thread each: there is a process a core, and more threads would fight over them."""

    def make_session(model: Any, options: Any = None, **more: Any) -> Any:
        options = options or more.pop("sess_options", None) or onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        return make(model, options, **more)

    return make_session


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
