"""What turns a batch of pixels into probabilities: an ONNX file in onnxruntime. No torch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnxruntime

Engine = Callable[[np.ndarray], np.ndarray]  # (N, 1, H, W) in 0..255 -> (N, labels); any number of threads may call it

PIXELS, PROBABILITIES = "pixels", "probabilities"


def open_session(content: bytes, threads: int | None = None) -> onnxruntime.InferenceSession:
    """Of an ONNX file, on the CPU; one call uses as many threads, by default one a core."""
    options = onnxruntime.SessionOptions()
    if threads:
        options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def onnx_engine(content: bytes, threads: int | None = None) -> Engine:
    """An exported ONNX file, in onnxruntime; see `open_session`."""
    session = open_session(content, threads)

    def read(pixels: np.ndarray) -> np.ndarray:
        [probabilities] = session.run([PROBABILITIES], {PIXELS: pixels})
        return np.asarray(probabilities)

    return read
