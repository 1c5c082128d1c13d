"""An exported learner as an ONNX file in int8: a third of the size, and a fraction of PyTorch's time a face."""

from __future__ import annotations

import contextlib
import copy
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import torch
from fastai.learner import Learner
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from dexpression.engine import PIXELS, PROBABILITIES
from dexpression.network.architecture import ResidualFeatEx
from dexpression.network.inference import FaceReader

CALIBRATION_BATCH = 64


def to_onnx(learner: Learner, image_size: int) -> onnx.ModelProto:
    """In float32, for batches of any length; pixels in, probabilities out."""
    reader = copy.deepcopy(FaceReader(learner)).eval()
    for block in reader.network.blocks:
        if isinstance(block, ResidualFeatEx):
            block.fold_norm()
    with _quiet():
        program = torch.onnx.export(
            reader,
            (torch.zeros(2, 1, image_size, image_size, dtype=torch.uint8),),
            input_names=[PIXELS],
            output_names=[PROBABILITIES],
            dynamic_shapes=({0: torch.export.Dim("faces")},),
            verbose=False,
        )
    assert program is not None  # noqa: S101  # for the type checker
    model = program.model_proto
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        del part.metadata_props[:]  # where in our sources, on this machine, each step was written
    return model


def to_int8(model: onnx.ModelProto, faces: np.ndarray) -> onnx.ModelProto:
    """The same with maps and weights in eight bits; `faces` (N, 1, H, W) in 0..255 show how large maps get."""
    with tempfile.TemporaryDirectory() as folder, _quiet():
        plain, quantised = Path(folder, "plain.onnx"), Path(folder, "quantised.onnx")
        onnx.save(model, plain)
        quantize_static(
            plain,
            quantised,
            _Faces(faces),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,  # seven bits for weights: processors without VNNI add products up in sixteen
            # Pooling, joining and adding in eight bits too is faster by a sixth, but loses answers.
            op_types_to_quantize=["Conv", "Relu"],
            # A mean over batches: one extreme face would make every step of a map coarser.
            extra_options={"CalibMovingAverage": True},
        )
        return onnx.load(quantised)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Both libraries tell of every step, through the root logger too."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


class _Faces(CalibrationDataReader):
    def __init__(self, faces: np.ndarray) -> None:
        self._batches: Iterator[np.ndarray] = iter(np.array_split(faces, max(1, len(faces) // CALIBRATION_BATCH)))

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self._batches, None)
        return None if batch is None else {PIXELS: batch}
