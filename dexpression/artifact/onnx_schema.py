"""The fields of ONNX's protobuf messages that an export holds, as message classes; the package `onnx` is not needed."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

# Message -> number, type and name of each field, as in onnx.proto. No field can hold a subgraph, a function, the name
# of another file, or an operator of another domain.
FIELDS = {
    "ModelProto": {1: "int64 ir_version", 7: "GraphProto graph", 8: "repeated OperatorSetIdProto opset_import"},
    "OperatorSetIdProto": {1: "string domain", 2: "int64 version"},
    "GraphProto": {
        1: "repeated NodeProto node",
        2: "string name",
        5: "repeated TensorProto initializer",
        11: "repeated ValueInfoProto input",
        12: "repeated ValueInfoProto output",
    },
    "NodeProto": {
        1: "repeated string input",
        2: "repeated string output",
        3: "string name",
        4: "string op_type",
        5: "repeated AttributeProto attribute",
    },
    "AttributeProto": {
        1: "string name",
        2: "float f",
        3: "int64 i",
        4: "bytes s",
        8: "repeated int64 ints",
        20: "int32 type",
    },
    "TensorProto": {
        1: "repeated int64 dims",
        2: "int32 data_type",
        4: "repeated float float_data",
        5: "repeated int32 int32_data",
        8: "string name",
        9: "bytes raw_data",
    },
    "ValueInfoProto": {1: "string name", 2: "TypeProto type"},
    "TypeProto": {1: "Tensor tensor_type"},
    "Tensor": {1: "int32 elem_type", 2: "TensorShapeProto shape"},
    "TensorShapeProto": {1: "repeated Dimension dim"},
    "Dimension": {1: "int64 dim_value", 2: "string dim_param"},
}
# Fields that an export also holds, but that nothing needs. The shapes in value_info follow from the input.
DROPPED = {
    "ModelProto": {2: "producer_name", 3: "producer_version", 14: "metadata_props"},
    "GraphProto": {13: "value_info", 16: "metadata_props"},
}

Message = Any  # an instance of a message class; these are made at run time


def _model_class() -> Any:
    described = descriptor_pb2.FileDescriptorProto(name="export.proto", package="export")
    for message, fields in FIELDS.items():
        added = described.message_type.add(name=message)
        for number, field in fields.items():
            *repeated, kind, name = field.split()
            label = "LABEL_REPEATED" if repeated else "LABEL_OPTIONAL"
            kinds = {"type_name": f".export.{kind}"} if kind in FIELDS else {"type": f"TYPE_{kind.upper()}"}
            added.field.add(name=name, number=number, label=label, **kinds)
    pool = descriptor_pool.DescriptorPool()  # an own one: the package `onnx` has messages of these names in the default
    pool.AddSerializedFile(described.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("export.ModelProto"))


ModelProto = _model_class()
