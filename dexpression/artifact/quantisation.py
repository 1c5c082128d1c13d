"""Make the ONNX model of a learner in float32, and quantise it to int8: a quarter of the size, and faster."""

from __future__ import annotations

import contextlib
import copy
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from dexpression.engine import PIXELS

if TYPE_CHECKING:
    from fastai.learner import Learner

CALIBRATION_BATCH = 64
# How an int8 model stores what belongs to a layer: torch names a bias after the weight that it folded into it.
STORED = {
    "weight": "weight",
    "bias": "bias",
    "weight_quantized": "weight",
    "bias_quantized": "bias",
    "weight_bias_quantized": "bias",
}


def to_onnx(learner: Learner, image_size: int) -> onnx.ModelProto:
    """The learner's network as an ONNX model in float32, for batches of any length.

    Its input is pixels; each reading is an output with its probabilities. The evidence is another one, if the network
    has it.
    """
    import torch

    from dexpression.network.architecture import ResidualFeatEx
    from dexpression.network.inference import InferenceModule

    module = copy.deepcopy(InferenceModule(learner)).eval()
    for block in module.network.blocks:
        if isinstance(block, ResidualFeatEx):
            block.fold_norm()
    with _quiet():
        program = torch.onnx.export(
            module,
            (torch.zeros(2, 1, image_size, image_size, dtype=torch.uint8),),
            input_names=[PIXELS],
            output_names=module.outputs,
            dynamic_shapes=({0: torch.export.Dim("faces")},),
            verbose=False,
        )
    assert program is not None  # noqa: S101  # for the type checker
    model = program.model_proto
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        del part.metadata_props[:]  # paths of this machine and lines of our sources
    _name_classifier(model.graph)
    return model


def to_int8(model: onnx.ModelProto, faces: np.ndarray) -> onnx.ModelProto:
    """Quantise an ONNX model: feature maps and weights in eight bits.

    `faces` (N, 1, H, W) in 0..255 are the sample from which the ranges of the feature maps are taken.
    """
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
            reduce_range=True,  # seven bits for weights: processors without VNNI sum products in sixteen bits
            # Quantised pooling, concatenation and addition are a sixth faster, but cost accuracy.
            op_types_to_quantize=["Conv", "Relu"],
            # In float32, the logits are exactly the mean of the evidence.
            nodes_to_exclude=[node.name for node in model.graph.node if _is_classifier(node)],
            # Ranges are means over batches: one extreme face would coarsen the whole map.
            extra_options={"CalibMovingAverage": True},
        )
        return onnx.load(quantised)


def _name_classifier(graph: onnx.GraphProto) -> None:
    """Name the weights of the convolution that computes the evidence as in the network; torch names a reshaped copy."""
    for node in filter(_is_classifier, graph.node):
        if node.op_type == "Conv":
            [weights] = (tensor for tensor in graph.initializer if tensor.name == node.input[1])
            weights.name = node.input[1] = f"{node.input[2].removesuffix('.bias')}.weight"


def _is_classifier(node: onnx.NodeProto) -> bool:
    return any(name.startswith("network.classifier.") for name in node.input)


def read_int8(content: bytes) -> dict[str, np.ndarray]:
    """The weights and biases of an ONNX model that `to_int8` made, in float32, by their names in the network."""
    tensors = {
        tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load_from_string(content).graph.initializer
    }
    found: dict[str, np.ndarray] = {}
    for name, values in tensors.items():
        owner, _, kind = name.removeprefix("network.").rpartition(".")
        if not name.startswith("network.") or kind not in STORED:
            continue
        stem = name.removesuffix("_quantized")
        # A scale of weights belongs to a row; one of biases to a value.
        scale = tensors.get(f"{stem}_scale", tensors.get(f"{name}_scale"))
        scaled = values if scale is None else values * scale.reshape(-1, *[1] * (values.ndim - 1))
        found[f"{owner}.{STORED[kind]}"] = scaled.astype(np.float32)
    return found


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence torch and onnxruntime, which log every step, through the root logger too."""
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
