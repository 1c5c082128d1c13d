"""What an ONNX model of an export may contain: a file from others may hold loops, huge maps, or names of files."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dexpression.engine import PIXELS, PROBABILITIES
from dexpression.errors import BrokenOnnxModel

if TYPE_CHECKING:
    import onnx

# The operators of our exports: both networks, one and two heads, float32 and int8. None of them runs a subgraph.
OPERATORS = {
    "Add", "AveragePool", "Cast", "Concat", "Conv", "DequantizeLinear", "Div", "Gather", "Gemm", "MaxPool", "Mul",
    "Pad", "Pow", "QuantizeLinear", "ReduceMean", "ReduceSum", "Relu", "Reshape", "Softmax", "Squeeze", "Sub", "Where",
}  # fmt: skip
TYPES = {1, 2, 3, 6, 7, 9}  # of tensors: float, uint8, int8, int32, int64, bool
OPSETS = range(18, 24)  # torch writes 20
MAX_FIELDS = 100_000  # of the file, before it is parsed: a field of two bytes takes hundreds in memory
MAX_NODES = 1_000  # our exports have up to 151
BATCH = 64  # faces, the most in one call
# For one face. The paper's network, the larger one, has 0.85 million in a tensor, 12.5 million and 0.88 billion.
MAX_ELEMENTS, MAX_ALL_ELEMENTS, MAX_MULTIPLY_ADDS = 3_000_000, 20_000_000, 3_000_000_000


def check_onnx_model(content: bytes, labels: int, image_size: int) -> bytes:
    """Return an ONNX model without its unknown fields, if it is as an export writes it, for these labels and this size.

    Nothing of the model runs, and no other file is opened. Raises BrokenOnnxModel.
    """
    import onnx

    try:
        _count_fields(content, onnx.ModelProto.DESCRIPTOR)
        model = onnx.load_model_from_string(content)
        model.DiscardUnknownFields()
        _check_operators(model)
        _check_sizes(model, labels, image_size)
        onnx.checker.check_model(model)
    except BrokenOnnxModel:
        raise
    except Exception as error:  # protobuf and the checker raise nearly anything on damaged bytes
        raise BrokenOnnxModel(f"The ONNX model is damaged ({type(error).__name__}). Export it again.") from error
    checked: bytes = model.SerializeToString()
    return checked


def _count_fields(content: bytes, descriptor: Any) -> None:
    """Walk over the fields of a protobuf message and of those in it, and refuse more than MAX_FIELDS."""
    count = 0
    messages = [(0, len(content), descriptor)]
    while messages:
        position, end, message = messages.pop()
        while position < end:
            count += 1
            _require(count <= MAX_FIELDS, f"has more than {MAX_FIELDS} fields")
            tag, position = _varint(content, position)
            field, kind = message.fields_by_number.get(tag >> 3), tag & 7
            if kind == 0:
                _, position = _varint(content, position)
            elif kind == 2:
                length, position = _varint(content, position)
                if field is not None and field.message_type is not None:
                    messages.append((position, position + length, field.message_type))
                position += length
            else:
                _require(kind in (1, 5), "is damaged")
                position += 8 if kind == 1 else 4
        _require(position == end, "is damaged")


def _varint(content: bytes, position: int) -> tuple[int, int]:
    """Decode a protobuf varint; returns its value and the position behind it."""
    value = shift = 0
    while True:
        byte = content[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position
        _require(shift < 70, "is damaged")


def _check_operators(model: onnx.ModelProto) -> None:
    graph = model.graph
    _require([opset.domain for opset in model.opset_import] == [""], "has operators of another domain")
    _require(model.opset_import[0].version in OPSETS, "has another opset")
    _require(not model.functions and not model.training_info, "defines functions")
    _require(len(graph.node) <= MAX_NODES, f"has more than {MAX_NODES} operators")
    foreign = sorted({node.op_type for node in graph.node} - OPERATORS)
    _require(not foreign, f"has the operator {foreign[0][:40]!r}" if foreign else "")
    _require(not any(attribute.HasField("g") or attribute.graphs for attribute in _attributes(graph)), "has a subgraph")
    _require(not graph.sparse_initializer, "has sparse weights")
    for tensor in _tensors(graph):
        _require(not tensor.external_data and not tensor.data_location, "has weights in another file")
    types = {tensor.data_type for tensor in _tensors(graph)}
    types |= {attribute.i for attribute in _attributes(graph) if attribute.name == "to"}
    _require(types <= TYPES, "has tensors of another type")
    _require(all(attribute.i >= 1 for attribute in _attributes(graph) if attribute.name == "group"), "has no groups")


def _check_sizes(model: onnx.ModelProto, labels: int, image_size: int) -> None:
    """Check the shapes that follow from the input for a whole batch; those that the file states are not believed."""
    import onnx

    described = [(value.name, _shape(value)[1:]) for value in (*model.graph.input, *model.graph.output)]
    fits = described == [(PIXELS, [1, image_size, image_size]), (PROBABILITIES, [labels])]
    _require(fits, f"does not turn {image_size}x{image_size} pixels into {labels} probabilities")
    sized = onnx.ModelProto()
    sized.CopyFrom(model)
    del sized.graph.value_info[:]
    for value in (*sized.graph.input, *sized.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = BATCH
    graph = onnx.shape_inference.infer_shapes(sized, strict_mode=True, data_prop=True).graph
    shapes: dict[str, Any] = {value.name: _shape(value) for value in (*graph.value_info, *graph.input, *graph.output)}
    shapes |= {tensor.name: list(tensor.dims) for tensor in _tensors(graph)}
    computed = [name for node in graph.node for name in node.output if name]
    known = all(isinstance(side, int) and side >= 0 for name in computed for side in shapes.get(name, [None]))
    _require(known, "has a tensor of unknown shape")
    elements = [math.prod(shapes[name]) for name in computed]
    _require(max(elements, default=0) <= BATCH * MAX_ELEMENTS, "has a tensor that is too large")
    _require(
        all(math.prod(tensor.dims) <= MAX_ELEMENTS for tensor in _tensors(graph)), "has a tensor that is too large"
    )
    _require(sum(elements) <= BATCH * MAX_ALL_ELEMENTS, "has too many large tensors")
    work = sum(_multiply_adds(node, shapes) for node in graph.node)
    _require(work <= BATCH * MAX_MULTIPLY_ADDS, "computes too much")


def _multiply_adds(node: onnx.NodeProto, shapes: dict[str, Any]) -> int:
    """How many products a convolution, a matrix product or a pooling adds up, at most."""
    size: int = math.prod(shapes[node.output[0]])
    if node.op_type in ("Conv", "Gemm"):
        terms: list[int] = shapes[node.input[1]][1:] if node.op_type == "Conv" else shapes[node.input[0]]
        return size * math.prod(terms)
    kernel = [side for attribute in node.attribute if attribute.name == "kernel_shape" for side in attribute.ints]
    return size * int(math.prod(kernel))


def _attributes(graph: onnx.GraphProto) -> Iterator[onnx.AttributeProto]:
    for node in graph.node:
        yield from node.attribute


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for attribute in _attributes(graph):
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors


def _shape(value: onnx.ValueInfoProto) -> list[int | None]:
    """The shape of a tensor; None stands for a dimension that is not known."""
    return [side.dim_value if side.HasField("dim_value") else None for side in value.type.tensor_type.shape.dim]


def _require(fits: bool, fault: str) -> None:
    if not fits:
        raise BrokenOnnxModel(f"The ONNX model {fault}, unlike every export of this project. Export it again.")
