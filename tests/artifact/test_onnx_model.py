"""Only an ONNX model as an export writes it is loaded."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dexpression.artifact.golden import golden_faces
from dexpression.artifact.manifest import export_paths, load_onnx_model
from dexpression.artifact.onnx_model import check_onnx_model
from dexpression.engine import onnx_backend
from dexpression.errors import BrokenOnnxModel
from dexpression.settings import Settings
from tests.support.exports import replace_file

SHIPPED = export_paths(Settings.model_path).onnx


def test_the_shipped_model_is_accepted():
    check_onnx_model(SHIPPED.read_bytes(), labels=7, image_size=48)


@pytest.mark.parametrize(("labels", "image_size"), [(5, 48), (7, 224)])
def test_a_model_for_other_labels_or_another_size_is_refused(labels, image_size):
    with pytest.raises(BrokenOnnxModel, match=rf"does not turn {image_size}x{image_size} pixels into {labels} "):
        check_onnx_model(SHIPPED.read_bytes(), labels, image_size)


def append_operator(model: onnx.ModelProto, kind: str, **attributes: object) -> None:
    model.graph.node.append(helper.make_node(kind, ["pixels"], ["more"], **attributes))


def append_loop(model: onnx.ModelProto) -> None:
    append_operator(model, "Loop", body=helper.make_graph([], "body", [], []))


def hide_subgraph(model: onnx.ModelProto) -> None:
    append_operator(model, "Relu", body=helper.make_graph([], "body", [], []))


def define_function(model: onnx.ModelProto) -> None:
    model.functions.append(helper.make_function("", "Relu", ["x"], ["y"], [], model.opset_import))


def add_domain(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def change_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 7


def refer_to_a_file(model: onnx.ModelProto) -> None:
    weight = model.graph.initializer[0]
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="/etc/passwd")


def add_huge_weight(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(TensorProto(name="huge", data_type=TensorProto.FLOAT, dims=[10**9, 10**9]))


def pad_hugely(model: onnx.ModelProto) -> None:
    append_operator(model, "MaxPool", kernel_shape=[1, 1], pads=[0, 0, 10**6, 10**6])


def add_many_operators(model: onnx.ModelProto) -> None:
    for number in range(1_001):
        model.graph.node.append(helper.make_node("Relu", ["pixels"], [f"more{number}"]))


def state_a_false_shape(model: onnx.ModelProto) -> None:
    """The padding depends on the pixels, so that the shape is not known, whatever the file says."""
    for node in (
        helper.make_node("Cast", ["pixels"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["whole", "flat"], ["pads"]),
        helper.make_node("Pad", ["probabilities", "pads"], ["more"]),
    ):
        model.graph.node.append(node)
    model.graph.initializer.append(numpy_helper.from_array(np.array([-1]), "flat"))
    model.graph.value_info.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, ["faces", 7]))


def compute_too_much(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Cast", ["pixels"], ["p0"], to=TensorProto.FLOAT))
    for number in range(200):
        attributes = {"kernel_shape": [43, 43], "pads": [21] * 4}
        model.graph.node.append(helper.make_node("AveragePool", [f"p{number}"], [f"p{number + 1}"], **attributes))
    huge = numpy_helper.from_array(np.zeros((1_000, 1, 43, 43), np.float32), "huge")
    model.graph.initializer.append(huge)
    for number in range(6):
        model.graph.node.append(helper.make_node("Conv", ["p0", "huge"], [f"c{number}"], pads=[21] * 4))


def cast_to_text(model: onnx.ModelProto) -> None:
    append_operator(model, "Cast", to=TensorProto.STRING)


def free_another_dimension(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"


def rename_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].name = "other"


@pytest.mark.parametrize(
    "change",
    [
        append_loop, hide_subgraph, define_function, add_domain, change_opset, refer_to_a_file, add_huge_weight,
        pad_hugely, add_many_operators, free_another_dimension, rename_input,
        state_a_false_shape, compute_too_much, cast_to_text,
    ],
)  # fmt: skip
def test_a_model_that_no_export_writes_is_refused(change: Callable[[onnx.ModelProto], None]):
    model = onnx.load(SHIPPED)
    change(model)
    with pytest.raises(BrokenOnnxModel, match="Export it again"):
        check_onnx_model(model.SerializeToString(), labels=7, image_size=48)


def test_a_file_that_hides_another_format_is_read_as_onnx():
    """onnxruntime takes a file with ORTM at byte 4 for its own format, although protobuf skips this as unknown."""
    hidden = b"\x08\x0a\x12\x04ORTM" + SHIPPED.read_bytes()
    checked = check_onnx_model(hidden, labels=7, image_size=48)
    faces = golden_faces(48)
    assert checked[4:8] != b"ORTM"
    assert np.array_equal(onnx_backend(checked)(faces), onnx_backend(SHIPPED.read_bytes())(faces))
    assert np.array_equal(onnx_backend(hidden)(faces), onnx_backend(SHIPPED.read_bytes())(faces))


@pytest.mark.parametrize("field", [b"\x6a\x00", b"\x2a\x00", b"\x0a\x00"], ids=["value_info", "initializer", "node"])
def test_millions_of_empty_fields_are_refused_before_they_are_parsed(field):
    graph = field * 1_000_000
    content = b"\x3a" + bytes([128 | len(graph) & 127, 128 | len(graph) >> 7 & 127, len(graph) >> 14]) + graph
    with pytest.raises(BrokenOnnxModel, match="has more than 100000 fields"):
        check_onnx_model(content, labels=7, image_size=48)


def test_numbers_that_are_no_probabilities_are_refused():
    model = onnx.load(SHIPPED)
    model.graph.node[-1].output[0] = "before"
    model.graph.initializer.append(numpy_helper.from_array(np.float32("nan"), "nan"))
    model.graph.node.append(helper.make_node("Mul", ["before", "nan"], ["probabilities"]))
    backend = onnx_backend(check_onnx_model(model.SerializeToString(), labels=7, image_size=48))
    with pytest.raises(BrokenOnnxModel, match="no probabilities"):
        backend(golden_faces(48))


def test_an_operator_that_fails_is_one_error_of_ours():
    model = onnx.load(SHIPPED)
    model.graph.initializer.append(numpy_helper.from_array(np.array([10**9]), "far"))
    model.graph.node.append(helper.make_node("Gather", ["pixels", "far"], ["more"], axis=1))
    model.graph.node[-2].output[0] = "before"
    model.graph.node.append(helper.make_node("Cast", ["more"], ["cast"], to=TensorProto.FLOAT))
    model.graph.node.append(helper.make_node("ReduceSum", ["cast"], ["sum"], keepdims=0))
    model.graph.node.append(helper.make_node("Add", ["before", "sum"], ["probabilities"]))
    with pytest.raises(BrokenOnnxModel, match="cannot"):
        onnx_backend(check_onnx_model(model.SerializeToString(), labels=7, image_size=48))(golden_faces(48))


@pytest.mark.parametrize("content", [b"", b"x" * 100, SHIPPED.read_bytes()[:100_000]], ids=["empty", "text", "cut off"])
def test_bytes_that_are_no_model_are_refused(content):
    with pytest.raises(BrokenOnnxModel):
        check_onnx_model(content, labels=7, image_size=48)


def test_a_foreign_model_with_a_matching_digest_is_refused_when_it_is_loaded(model):
    foreign = onnx.load(export_paths(model).onnx)
    append_loop(foreign)
    replace_file(export_paths(model).onnx, foreign.SerializeToString())
    with pytest.raises(BrokenOnnxModel, match="has the operator 'Loop'"):
        load_onnx_model(model)


def test_a_model_with_other_weights_is_accepted():
    model = onnx.load(SHIPPED)
    weight = next(weight for weight in model.graph.initializer if len(weight.dims) == 4)
    weight.CopyFrom(numpy_helper.from_array(np.zeros_like(numpy_helper.to_array(weight)), weight.name))
    check_onnx_model(model.SerializeToString(), labels=7, image_size=48)
