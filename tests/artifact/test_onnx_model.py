"""Only an ONNX model as an export writes it is loaded."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from fastai.learner import Learner
from onnx import TensorProto, helper, numpy_helper

from dexpression.artifact.golden import golden_faces
from dexpression.artifact.manifest import export_paths, load_onnx_model
from dexpression.artifact.onnx_model import check_onnx_model
from dexpression.artifact.onnx_schema import DROPPED, FIELDS, ModelProto
from dexpression.artifact.quantisation import to_int8, to_onnx
from dexpression.engine import onnx_backend
from dexpression.errors import BrokenOnnxModel
from dexpression.labels import READINGS, SEVEN
from dexpression.network.architecture import build_network
from dexpression.network.loss import EmotionLoss, Readout
from dexpression.network.transforms import inference_dataloaders
from dexpression.settings import Settings
from tests.support.exports import replace_file
from tests.support.server import ROOT

SHIPPED = export_paths(Settings.model_path).onnx


def check(content: bytes) -> bytes:
    """Check a model as the shipped one."""
    return check_onnx_model(content, READINGS, labels=7, image_size=48, evidence_side=6)


def same_answers(first: bytes, second: bytes) -> bool:
    """Whether two models give exactly the same probabilities of each reading."""
    one, other = (onnx_backend(content)(golden_faces(48)) for content in (first, second))
    return all(np.array_equal(one[reading], other[reading]) for reading in READINGS)


def test_the_shipped_model_is_accepted_and_answers_as_before():
    checked = check(SHIPPED.read_bytes())
    assert same_answers(checked, SHIPPED.read_bytes())
    assert check(checked) == checked


@pytest.mark.slow
@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize(("network", "image_size"), [("compact", 48), ("paper", 224)])
def test_every_export_is_accepted(network, image_size, heads):
    readings = READINGS[-heads:]
    loss = EmotionLoss(readouts={reading: Readout(0.85, 1.3, torch.rand(7)) for reading in readings})
    dataloaders = inference_dataloaders(SEVEN, image_size)
    float32 = to_onnx(Learner(dataloaders, build_network(network, 7, heads, image_size), loss_func=loss), image_size)
    int8 = to_int8(float32, np.zeros((2, 1, image_size, image_size), np.uint8))
    for model in (float32, int8):
        check_onnx_model(model.SerializeToString(), readings, 7, image_size, 6 if network == "compact" else None)


def test_the_check_needs_no_onnx():
    program = """
import sys
sys.modules["onnx"] = sys.modules["ml_dtypes"] = None  # an import of them fails
from dexpression.artifact.onnx_model import check_onnx_model
check_onnx_model(open(sys.argv[1], "rb").read(), ("people", "labels"), labels=7, image_size=48, evidence_side=6)
"""
    subprocess.run([sys.executable, "-c", program, SHIPPED], cwd=ROOT, check=True)


def list_messages(ours: Any, theirs: Any, path: tuple[int, ...] = ()) -> Iterator[tuple[Any, Any, tuple[int, ...]]]:
    """A message of ours, the same of `onnx`, the numbers of the fields that lead to it; then the messages in it."""
    yield ours, theirs, path
    for field in ours.fields:
        if field.message_type:
            other = theirs.fields_by_number[field.number].message_type
            yield from list_messages(field.message_type, other, (*path, field.number))


MESSAGES = list(list_messages(ModelProto.DESCRIPTOR, onnx.ModelProto.DESCRIPTOR))


def test_the_messages_are_those_of_onnx_with_fewer_fields():
    assert {ours.name for ours, *_ in MESSAGES} == FIELDS.keys()
    for ours, theirs, _ in MESSAGES:
        for field in ours.fields:
            other = theirs.fields_by_number[field.number]
            kind = other.TYPE_INT32 if other.type == other.TYPE_ENUM else other.type  # both are written alike
            assert (field.name, field.type, field.is_repeated) == (other.name, kind, other.is_repeated)
        for number, name in DROPPED.get(ours.name, {}).items():
            assert theirs.fields_by_number[number].name == name


def enclose(path: tuple[int, ...], content: bytes) -> bytes:
    """Encode a field of a model, given the numbers of the fields that lead to it, the last of which is its own."""
    for number in reversed(path):
        length = len(content)
        lengths = [length & 127 | 128, length >> 7 & 127 | 128, length >> 14 & 127 | 128, length >> 21]
        content = bytes([number << 3 & 127 | 130, number >> 4, *lengths]) + content
    return content


@pytest.mark.parametrize(("ours", "theirs", "path"), MESSAGES, ids=[ours.name for ours, *_ in MESSAGES])
def test_a_field_that_no_export_holds_is_refused(ours, theirs, path):
    foreign = theirs.fields_by_number.keys() - FIELDS[ours.name].keys() - DROPPED.get(ours.name, {}).keys()
    for number in (*foreign, 500):
        with pytest.raises(BrokenOnnxModel, match=f"has the field {number} of {ours.name},"):
            check(SHIPPED.read_bytes() + enclose((*path, number), b""))


@pytest.mark.parametrize(("labels", "image_size"), [(5, 48), (7, 224)])
def test_a_model_for_other_labels_or_another_size_is_refused(labels, image_size):
    with pytest.raises(BrokenOnnxModel, match=rf"does not turn {image_size}x{image_size} pixels into {labels} "):
        check_onnx_model(SHIPPED.read_bytes(), READINGS, labels, image_size, 6)


@pytest.mark.parametrize("readings", [("labels",), ("people",), ("labels", "people"), (*READINGS, "labels"), ()])
def test_a_model_of_other_readings_or_in_another_order_is_refused(readings):
    shown = " and ".join(readings)
    with pytest.raises(BrokenOnnxModel, match=f"into 7 probabilities each for {shown}"):
        check_onnx_model(SHIPPED.read_bytes(), readings, 7, 48, 6)


@pytest.mark.parametrize("evidence_side", [5, None])
def test_a_model_of_other_evidence_is_refused(evidence_side):
    shown = "people and labels and evidence of 5x5 places" if evidence_side else "people and labels, unlike"
    with pytest.raises(BrokenOnnxModel, match=f"into 7 probabilities each for {shown}"):
        check_onnx_model(SHIPPED.read_bytes(), READINGS, 7, 48, evidence_side)


def test_a_model_of_one_reading_is_refused_for_a_manifest_with_two(model):
    content = export_paths(model).onnx.read_bytes()
    assert check_onnx_model(content, ["labels"], 7, 48, 6)
    with pytest.raises(BrokenOnnxModel, match="each for people and labels"):
        check(content)


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


def name_the_domain_of_an_operator(model: onnx.ModelProto) -> None:
    """onnxruntime knows its own domains even if the model does not import them."""
    next(node for node in model.graph.node if node.op_type == "QuantizeLinear").domain = "com.microsoft"


def change_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 7


def refer_to_a_file(model: onnx.ModelProto) -> None:
    weight = model.graph.initializer[0]
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="/etc/passwd")


def add_huge_weight(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(TensorProto(name="huge", data_type=TensorProto.FLOAT, dims=[10**9, 10**9]))


def shorten_weight(model: onnx.ModelProto) -> None:
    weight = next(weight for weight in model.graph.initializer if weight.raw_data)
    weight.raw_data = weight.raw_data[:-1]


def store_weight_twice(model: onnx.ModelProto) -> None:
    weight = next(weight for weight in model.graph.initializer if weight.raw_data)
    weight.int32_data.extend([1] * len(weight.raw_data))


def negate_two_sides(model: onnx.ModelProto) -> None:
    weight = next(weight for weight in model.graph.initializer if len(weight.dims) == 4)
    weight.dims[:2] = [-side for side in weight.dims[:2]]


def name_two_tensors_alike(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.float32([1]), model.graph.node[0].output[0]))


def move_output_to_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(model.graph.output.pop())


def rename_result(model: onnx.ModelProto, reading: str) -> None:
    """Let the operator that gives a reading give "before" instead."""
    next(node for node in model.graph.node if reading in node.output).output[0] = "before"


def add_up_all_faces(model: onnx.ModelProto) -> None:
    """The output then has one row, although the file says that it has one for each face."""
    rename_result(model, "labels")
    model.graph.initializer.append(numpy_helper.from_array(np.array([0]), "first"))
    model.graph.node.append(helper.make_node("ReduceMean", ["before", "first"], ["labels"], keepdims=1))


def append_padding(model: onnx.ModelProto, padded: str, pads: list[int], name: str) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.array(pads), f"{name}_pads"))
    model.graph.node.append(helper.make_node("Pad", [padded, f"{name}_pads"], [name]))


def pad_a_constant_hugely(model: onnx.ModelProto) -> None:
    """onnxruntime computes it when it opens the model, however few faces there are."""
    model.graph.initializer.append(numpy_helper.from_array(np.float32([[0]]), "constant"))
    append_padding(model, "constant", [0, 0, 2_000, 2_000], "more")


def pad_hugely(model: onnx.ModelProto) -> None:
    append_padding(model, "pixels", [0, 0, 0, 0, 0, 0, 10**6, 10**6], "more")


def append_foreign_operator(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("RandomNormal", [], ["more"], shape=[1]))


def have_no_groups(model: onnx.ModelProto) -> None:
    append_operator(model, "Conv", group=0)


def omit_a_tensor(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "missing"


def add_text(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(TensorProto(name="text", data_type=TensorProto.STRING, dims=[0]))


def name_a_weight_as_the_input(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 1, 48, 48), np.uint8), "pixels"))


def add_many_large_tensors(model: onnx.ModelProto) -> None:
    for number in range(10):
        append_padding(model, "pixels", [0, 0, 0, 0, 0, 0, 1_450, 1_450], f"more{number}")


def add_many_operators(model: onnx.ModelProto) -> None:
    for number in range(1_001):
        model.graph.node.append(helper.make_node("Relu", ["pixels"], [f"more{number}"]))


def state_a_false_shape(model: onnx.ModelProto) -> None:
    """The padding depends on the pixels, so that the shape is not known, whatever the file says."""
    for node in (
        helper.make_node("Cast", ["pixels"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["whole", "flat"], ["pads"]),
        helper.make_node("Pad", ["labels", "pads"], ["more"]),
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


def rename_an_output(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = model.graph.node[0].output[0]


def swap_the_outputs(model: onnx.ModelProto) -> None:
    model.graph.output.append(model.graph.output[0])
    del model.graph.output[0]


def leave_out_an_output(model: onnx.ModelProto) -> None:
    model.graph.output.pop()


def give_a_reading_other_labels(model: onnx.ModelProto) -> None:
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 8


def rename_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].name = "other"


REFUSALS = {
    append_loop: "has the field 6 of AttributeProto",
    hide_subgraph: "has the field 6 of AttributeProto",
    define_function: "has the field 25 of ModelProto",
    refer_to_a_file: "has the field 13 of TensorProto",
    name_the_domain_of_an_operator: "has the field 7 of NodeProto",
    add_domain: "has operators of another domain",
    change_opset: "has another opset",
    add_many_operators: "has more than 1000 operators",
    append_foreign_operator: "has the operator 'RandomNormal'",
    cast_to_text: "has tensors of another type",
    add_text: "has tensors of another type",
    have_no_groups: "has no groups",
    add_huge_weight: "has a tensor that is too large",
    shorten_weight: "has weights that are not as large as their shape",
    store_weight_twice: "has weights that are not as large as their shape",
    negate_two_sides: "has a tensor of unknown shape",
    name_two_tensors_alike: "has two tensors of one name",
    name_a_weight_as_the_input: "has two tensors of one name",
    rename_input: "does not turn",
    free_another_dimension: "does not turn",
    move_output_to_input: "does not turn",
    rename_an_output: "does not turn",
    swap_the_outputs: "does not turn",
    leave_out_an_output: "does not turn",
    give_a_reading_other_labels: "does not turn",
    state_a_false_shape: "has a tensor of unknown shape",
    add_up_all_faces: "is damaged",
    omit_a_tensor: "is damaged",
    pad_hugely: "has a tensor that is too large",
    pad_a_constant_hugely: "has a tensor that is too large",
    add_many_large_tensors: "has too many large tensors",
    compute_too_much: "computes too much",
}


@pytest.mark.parametrize("change", REFUSALS)
def test_a_model_that_no_export_writes_is_refused(change: Callable[[onnx.ModelProto], None]):
    model = onnx.load(SHIPPED)
    change(model)
    with pytest.raises(BrokenOnnxModel, match=f"{REFUSALS[change]}.* Export it again"):
        check(model.SerializeToString())


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc, which has the peak of a process's memory")
def test_shapes_are_inferred_without_computing_what_depends_on_constants_alone():
    program = r"""
import re, sys
from dexpression.engine import infer_shapes
def peak(): return int(re.search(r"VmHWM:\s*(\d+)", open("/proc/self/status").read())[1])
content, before = sys.stdin.buffer.read(), peak()
assert infer_shapes(content)["more"] == [6_001, 6_001]
print(peak() - before)
"""
    model = onnx.load(SHIPPED)
    model.graph.initializer.append(numpy_helper.from_array(np.float32([[0]]), "constant"))
    append_padding(model, "constant", [0, 0, 6_000, 6_000], "more")
    model.graph.output.add(name="more")
    done = subprocess.run(
        [sys.executable, "-c", program], input=model.SerializeToString(), cwd=ROOT, check=True, stdout=subprocess.PIPE
    )
    assert int(done.stdout) < 100_000  # KiB; the constant would take 141,000


def test_a_file_that_hides_another_format_is_read_as_onnx():
    """onnxruntime takes a file with ORTM at byte 4 for its own format, although protobuf skips this as unknown."""
    hidden = b"\x08\x0a\x12\x04ORTM" + SHIPPED.read_bytes()
    checked = check(hidden)
    assert checked[4:8] != b"ORTM"
    assert same_answers(checked, SHIPPED.read_bytes())
    assert same_answers(hidden, SHIPPED.read_bytes())


@pytest.mark.parametrize("path", [(7, 13), (7, 5), (7, 1)], ids=["value_info", "initializer", "node"])
def test_millions_of_empty_fields_are_refused_before_they_are_parsed(path):
    content = enclose(path[:-1], bytes([path[-1] << 3 | 2, 0]) * 1_000_000)
    with pytest.raises(BrokenOnnxModel, match="has more than 100000 fields"):
        check(content)


@pytest.mark.parametrize("path", [(7, 1, 5, 8), (7, 5, 1), (7, 5, 5)], ids=["ints", "dims", "int32_data"])
def test_a_million_packed_numbers_are_refused_before_they_are_parsed(path):
    """Each is a byte in the file; in memory, those of an attribute take sixty bytes."""
    with pytest.raises(BrokenOnnxModel, match="has more than 100000 fields or packed numbers"):
        check(enclose(path, b"\1" * 1_000_000))


@pytest.mark.parametrize("reading", READINGS)
def test_numbers_that_are_no_probabilities_are_refused_in_each_reading(reading):
    model = onnx.load(SHIPPED)
    rename_result(model, reading)
    model.graph.initializer.append(numpy_helper.from_array(np.float32("nan"), "nan"))
    model.graph.node.append(helper.make_node("Mul", ["before", "nan"], [reading]))
    backend = onnx_backend(check(model.SerializeToString()))
    with pytest.raises(BrokenOnnxModel, match="no probabilities"):
        backend(golden_faces(48))


def test_an_operator_that_fails_is_one_error_of_ours():
    model = onnx.load(SHIPPED)
    model.graph.initializer.append(numpy_helper.from_array(np.array([10**9]), "far"))
    model.graph.node.append(helper.make_node("Gather", ["pixels", "far"], ["more"], axis=1))
    rename_result(model, "labels")
    model.graph.node.append(helper.make_node("Cast", ["more"], ["cast"], to=TensorProto.FLOAT))
    model.graph.node.append(helper.make_node("ReduceSum", ["cast"], ["sum"], keepdims=0))
    model.graph.node.append(helper.make_node("Add", ["before", "sum"], ["labels"]))
    with pytest.raises(BrokenOnnxModel, match="cannot"):
        onnx_backend(check(model.SerializeToString()))(golden_faces(48))


@pytest.mark.parametrize("content", [b"", b"x" * 100, SHIPPED.read_bytes()[:100_000]], ids=["empty", "text", "cut off"])
def test_bytes_that_are_no_model_are_refused(content):
    with pytest.raises(BrokenOnnxModel):
        check(content)


def test_a_foreign_model_with_a_matching_digest_is_refused_when_it_is_loaded(model):
    foreign = onnx.load(export_paths(model).onnx)
    append_operator(foreign, "Loop")
    replace_file(export_paths(model).onnx, foreign.SerializeToString())
    with pytest.raises(BrokenOnnxModel, match="has the operator 'Loop'"):
        load_onnx_model(model)


def test_a_model_with_other_weights_is_accepted():
    model = onnx.load(SHIPPED)
    weight = next(weight for weight in model.graph.initializer if len(weight.dims) == 4)
    weight.CopyFrom(numpy_helper.from_array(np.zeros_like(numpy_helper.to_array(weight)), weight.name))
    check(model.SerializeToString())
