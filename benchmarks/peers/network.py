"""The network of every peer: a float32 ONNX model in onnxruntime, one thread a worker; there is one worker a core."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import IO

import numpy as np
import onnxruntime
from PIL import Image

NETWORK, PORT, CORES = os.environ["PEER_NETWORK"], int(os.environ["PEER_PORT"]), int(os.environ["PEER_CORES"])
BATCH = os.environ.get("PEER_BATCH") == "1"
MAX_BATCH = 16  # with 32 callers and two workers, half of the callers for each


class Network:
    """The loaded network; its labels come from the metadata of the file."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(NETWORK, options, providers=["CPUExecutionProvider"])
        self._labels = self._session.get_modelmeta().custom_metadata_map["labels"].split()

    def predict(self, faces: Sequence[np.ndarray]) -> list[str]:
        """Predict all faces (48, 48) in one batch; one label a face."""
        [probabilities] = self._session.run(["people"], {"pixels": np.stack(faces)[:, None]})
        return [self._labels[index] for index in probabilities.argmax(axis=1)]


def decode(source: IO[bytes] | Image.Image) -> np.ndarray:
    """Decode a picture of 48x48 pixels into a grey array (48, 48) in 0..255."""
    return np.asarray((source if isinstance(source, Image.Image) else Image.open(source)).convert("L"))
