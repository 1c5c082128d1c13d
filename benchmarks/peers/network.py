"""The same network for every peer: float32 ONNX in onnxruntime, one thread a worker, since there is a worker a core."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import IO

import numpy as np
import onnxruntime
from PIL import Image

MODEL, PORT, CORES = os.environ["PEER_MODEL"], int(os.environ["PEER_PORT"]), int(os.environ["PEER_CORES"])
BATCH = os.environ.get("PEER_BATCH") == "1"
MAX_BATCH = 16  # of 32 callers, half for each of two workers


class Network:
    """Knows its labels from the file's metadata."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])
        self._labels = self._session.get_modelmeta().custom_metadata_map["labels"].split()

    def read(self, faces: Sequence[np.ndarray]) -> list[str]:
        """One label a face, in one run."""
        [probabilities] = self._session.run(None, {"pixels": np.stack(faces)[:, None]})
        return [self._labels[index] for index in probabilities.argmax(axis=1)]


def decode(source: IO[bytes] | Image.Image) -> np.ndarray:
    """(48, 48) in 0..255."""
    return np.asarray((source if isinstance(source, Image.Image) else Image.open(source)).convert("L"))
