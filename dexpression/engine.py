"""Run ONNX models in onnxruntime: from a batch of pixels to probabilities. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnxruntime

# Pixels (N, 1, H, W) in 0..255 -> probabilities (N, labels). Any number of threads may call a backend at once.
Backend = Callable[[np.ndarray], np.ndarray]

PIXELS, PROBABILITIES = "pixels", "probabilities"  # names of the input and the output of our ONNX models


def open_session(content: bytes, threads: int | None = None) -> onnxruntime.InferenceSession:
    """Open an ONNX model on the CPU; each call of it uses `threads` threads, by default one per core."""
    options = onnxruntime.SessionOptions()
    # Threads that spin while they wait took 1.5 to 1.7 times the processor time for a photo, and saved no wall time.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if threads:
        options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def onnx_backend(content: bytes, threads: int | None = None) -> Backend:
    """The exported ONNX model as a backend; for `threads` see `open_session`."""
    session = open_session(content, threads)

    def read(pixels: np.ndarray) -> np.ndarray:
        [probabilities] = session.run([PROBABILITIES], {PIXELS: pixels})
        return np.asarray(probabilities)

    return read
