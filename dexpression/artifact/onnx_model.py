"""What an ONNX model of an export may contain: a file from others may hold loops, huge maps, or names of files."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from dexpression.artifact.onnx_schema import DROPPED, Message, ModelProto
from dexpression.engine import PIXELS, infer_shapes
from dexpression.errors import BrokenOnnxModel
from dexpression.labels import EVIDENCE

# The operators of our exports: both networks, one and two heads, float32 and int8. None of them runs a subgraph.
OPERATORS = {
    "Add", "AveragePool", "Cast", "Concat", "Conv", "DequantizeLinear", "Div", "Gather", "Gemm", "MaxPool", "Mul",
    "Pad", "Pow", "QuantizeLinear", "ReduceMean", "ReduceSum", "Relu", "Reshape", "Softmax", "Squeeze", "Sub", "Where",
}  # fmt: skip
TYPES = {1: 4, 2: 1, 3: 1, 6: 4, 7: 8, 9: 1}  # float, uint8, int8, int32, int64, bool -> bytes of an element
OPSETS = range(18, 24)  # torch writes 20
# Of the file, before it is parsed: a field of two bytes takes hundreds in memory, a packed number of one byte dozens.
MAX_FIELDS = 100_000
MAX_NODES = 1_000  # our exports have up to 175
BATCH = 64  # faces, the most in one call
# For one face. The paper's network, the larger one, has 0.85 million in a tensor, 12.5 million and 0.88 billion.
MAX_ELEMENTS, MAX_ALL_ELEMENTS, MAX_MULTIPLY_ADDS = 3_000_000, 20_000_000, 3_000_000_000


def check_onnx_model(
    content: bytes, readings: Sequence[str], labels: int, image_size: int, evidence_side: int | None = None
) -> bytes:
    """Return what an ONNX model computes, without the rest, if an export of this kind may hold it.

    `evidence_side`: the places along a side of its evidence; None if it gives none. Nothing of the model runs, and no
    other file is opened. Raises BrokenOnnxModel.
    """
    try:
        _check_fields(content, ModelProto.DESCRIPTOR)
        model = ModelProto.FromString(content)
        model.DiscardUnknownFields()
        _check_operators(model)
        _check_weights(model.graph)
        _check_ends(model.graph, readings, labels, image_size, evidence_side)
        for faces in (1, BATCH):  # what is too large for one face may depend on no face, and is computed at the opening
            _check_sizes(model, faces)
    except BrokenOnnxModel:
        raise
    except Exception as error:  # protobuf and onnxruntime raise nearly anything on damaged bytes
        raise BrokenOnnxModel(f"The ONNX model is damaged ({type(error).__name__}). Export it again.") from error
    checked: bytes = model.SerializeToString()
    return checked


def _check_fields(content: bytes, descriptor: Any) -> None:
    """Walk over the fields of a protobuf message and of those in it; refuse foreign ones, and more than MAX_FIELDS.

    A field that is a packed list of numbers counts once a byte.
    """
    count = 0
    messages = [(0, len(content), descriptor)]
    while messages:
        position, end, message = messages.pop()
        while position < end:
            tag, position = _varint(content, position)
            number, kind = tag >> 3, tag & 7
            field = message.fields_by_number.get(number)
            known = field is not None or number in DROPPED.get(message.name, ())
            _require(known, f"has the field {number} of {message.name}")
            count += 1
            if kind == 0:
                _, position = _varint(content, position)
            elif kind == 2:
                length, position = _varint(content, position)
                if field is not None and field.message_type is not None:
                    messages.append((position, position + length, field.message_type))
                elif field is not None and field.type not in (field.TYPE_STRING, field.TYPE_BYTES):
                    count += length
                position += length
            else:
                _require(kind in (1, 5), "is damaged")
                position += 8 if kind == 1 else 4
            _require(count <= MAX_FIELDS, f"has more than {MAX_FIELDS} fields or packed numbers")
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


def _check_operators(model: Message) -> None:
    graph = model.graph
    _require([opset.domain for opset in model.opset_import] == [""], "has operators of another domain")
    _require(model.opset_import[0].version in OPSETS, "has another opset")
    _require(len(graph.node) <= MAX_NODES, f"has more than {MAX_NODES} operators")
    foreign = sorted({node.op_type for node in graph.node} - OPERATORS)
    _require(not foreign, f"has the operator {foreign[0][:40]!r}" if foreign else "")
    types = {attribute.i for attribute in _attributes(graph) if attribute.name == "to"}
    _require(types <= TYPES.keys(), "has tensors of another type")
    _require(all(attribute.i >= 1 for attribute in _attributes(graph) if attribute.name == "group"), "has no groups")


def _check_weights(graph: Message) -> None:
    """Check that each weight is in the file: onnxruntime allocates what its shape says."""
    names = Counter([PIXELS, *(tensor.name for tensor in graph.initializer), *_computed(graph)])
    _require(max(names.values()) == 1, "has two tensors of one name")
    for tensor in graph.initializer:
        _require(tensor.data_type in TYPES, "has tensors of another type")
        size = _size(tensor.dims)
        _require(size <= MAX_ELEMENTS, "has a tensor that is too large")
        stored = [len(tensor.raw_data) / TYPES[tensor.data_type], len(tensor.float_data), len(tensor.int32_data)]
        _require(sorted(stored) == [0, 0, size], "has weights that are not as large as their shape")


def _check_ends(
    graph: Message, readings: Sequence[str], labels: int, image_size: int, evidence_side: int | None
) -> None:
    described = [[(value.name, _shape(value)[1:]) for value in values] for values in (graph.input, graph.output)]
    outputs = [(reading, [labels]) for reading in readings]
    if evidence_side:
        outputs.append((EVIDENCE, [len(readings), labels, evidence_side, evidence_side]))  # a reading for each head
    fits = described == [[(PIXELS, [1, image_size, image_size])], outputs]
    shown = " and ".join(readings)
    given = f" and evidence of {evidence_side}x{evidence_side} places" if evidence_side else ""
    _require(
        fits, f"does not turn {image_size}x{image_size} pixels into {labels} probabilities each for {shown}{given}"
    )


def _check_sizes(model: Message, faces: int) -> None:
    """Check the shapes that follow from an input of `faces`; those that the file states are not believed."""
    shapes = _infer_shapes(model, faces) | {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    sizes = [_size(shapes[name]) for name in _computed(model.graph)]
    _require(max(sizes, default=0) <= faces * MAX_ELEMENTS, "has a tensor that is too large")
    _require(sum(sizes) <= faces * MAX_ALL_ELEMENTS, "has too many large tensors")
    work = sum(_multiply_adds(node, shapes) for node in model.graph.node)
    _require(work <= faces * MAX_MULTIPLY_ADDS, "computes too much")


def _infer_shapes(model: Message, faces: int) -> dict[str, Any]:
    """Infer the shapes of all computed tensors for so many faces; a dimension that is not known is no number."""
    sized = ModelProto()
    sized.CopyFrom(model)
    for value in (*sized.graph.input, *sized.graph.output):
        batch = value.type.tensor_type.shape.dim[0]
        batch.Clear()
        batch.dim_value = faces
    outputs = {value.name for value in sized.graph.output}
    for name in _computed(sized.graph):
        if name not in outputs:
            sized.graph.output.add(name=name)
    return infer_shapes(sized.SerializeToString())


def _multiply_adds(node: Message, shapes: dict[str, Any]) -> int:
    """How many products a convolution, a matrix product or a pooling adds up, at most."""
    size: int = math.prod(shapes[node.output[0]])
    if node.op_type in ("Conv", "Gemm"):
        terms: list[int] = shapes[node.input[1]][1:] if node.op_type == "Conv" else shapes[node.input[0]]
        return size * math.prod(terms)
    kernel = [side for attribute in node.attribute if attribute.name == "kernel_shape" for side in attribute.ints]
    return size * int(math.prod(kernel))


def _attributes(graph: Message) -> Iterator[Message]:
    for node in graph.node:
        yield from node.attribute


def _computed(graph: Message) -> list[str]:
    """The names of all tensors that the operators compute."""
    return [name for node in graph.node for name in node.output if name]


def _size(shape: Iterable[Any]) -> int:
    """The number of elements of a tensor; raises BrokenOnnxModel for a dimension that is unknown or negative."""
    sides = list(shape)
    _require(all(isinstance(side, int) and side >= 0 for side in sides), "has a tensor of unknown shape")
    return math.prod(sides)


def _shape(value: Message) -> list[int | None]:
    """The shape of the input or the output as the file states it; None stands for a dimension without a number."""
    return [None if side.HasField("dim_param") else side.dim_value for side in value.type.tensor_type.shape.dim]


def _require(fits: bool, fault: str) -> None:
    if not fits:
        raise BrokenOnnxModel(f"The ONNX model {fault}, unlike every export of this project. Export it again.")
