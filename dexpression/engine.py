"""Run ONNX models in onnxruntime: from a batch of pixels to probabilities. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnxruntime

from dexpression.errors import BrokenOnnxModel
from dexpression.labels import EVIDENCE

# Pixels (N, 1, H, W) in 0..255 -> probabilities (N, labels) by the name of each reading and, if the model gives it,
# `EVIDENCE`: what each place says for each head and label, (N, heads, labels, rows, columns); see dexpression.evidence.
# Any number of threads may call a backend at once.
Backend = Callable[[np.ndarray], dict[str, np.ndarray]]

PIXELS = "pixels"  # the name of the input of our ONNX models; each output has the name of a reading, or EVIDENCE


def open_session(content: bytes, threads: int | None = None) -> onnxruntime.InferenceSession:
    """Open an ONNX model on the CPU; each call of it uses `threads` threads, by default one per core."""
    return _open_session(content, _session_options(threads))


def infer_shapes(content: bytes) -> dict[str, list[int | str | None]]:
    """Infer the shape of each output of an ONNX model, without running it; an unknown dimension is no number.

    Raises classes of onnxruntime, which have no common base, for a model that is not valid.
    """
    options = _session_options(threads=1)
    # Otherwise onnxruntime computes whatever depends on constants alone, however large it is.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.strict_shape_type_inference", "1")
    options.add_session_config_entry("session.disable_prepacking", "1")  # that is another copy of the weights
    options.log_severity_level = 4  # the exception says what is wrong
    return {output.name: output.shape for output in _open_session(content, options).get_outputs()}


def _session_options(threads: int | None) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    # Threads that spin while they wait took 1.5 to 1.7 times the processor time for a photo, and saved no wall time.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Plans of where tensors lie, one for each shape of an input, took 50 MB more for 60 shapes, and saved no time.
    options.enable_mem_pattern = False
    # Otherwise onnxruntime guesses the format, and would read some files, which are valid ONNX, as its own format.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    if threads:
        options.intra_op_num_threads = threads
    return options


def _open_session(content: bytes, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def onnx_backend(content: bytes, threads: int | None = None) -> Backend:
    """The exported ONNX model as a backend; for `threads` see `open_session`.

    Raises BrokenOnnxModel, now or when it is called, for a model that cannot run or gives no probabilities.
    """
    try:
        session = open_session(content, threads)
    except Exception as error:  # onnxruntime raises classes of its own, without a common base
        raise BrokenOnnxModel(f"The ONNX model cannot be opened ({type(error).__name__}). Export it again.") from error

    names = [output.name for output in session.get_outputs()]

    def read(pixels: np.ndarray) -> dict[str, np.ndarray]:
        try:
            outputs = session.run(names, {PIXELS: pixels})
        except Exception as error:
            raise BrokenOnnxModel(f"The ONNX model cannot run ({type(error).__name__}). Export it again.") from error
        given = {name: np.asarray(output) for name, output in zip(names, outputs, strict=True)}
        readings = [rows for name, rows in given.items() if name != EVIDENCE]
        if not all(_are_probabilities(rows, len(pixels)) for rows in readings):
            raise BrokenOnnxModel("The ONNX model gives numbers that are no probabilities. Export it again.")
        return given

    return read


def _are_probabilities(rows: np.ndarray, count: int) -> bool:
    fits = (rows >= 0).all() and (abs(rows.sum(axis=1) - 1) <= 1e-2).all()  # NaN fits neither
    return len(rows) == count and bool(fits)
