"""The request of the Open Inference Protocol: a JSON object, and binary tensors behind it (Triton's extension)."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from dexpression.web.errors import BadParameter, RequestError
from dexpression.web.parameters import MAX_ECHO
from dexpression.web.problems import TENSORS_START

BINARY_OUTPUT = "binary_data_output"  # a parameter of the request: all outputs in binary, unless one says otherwise
BINARY_DATA = "binary_data"  # a parameter of an output
BINARY_SIZE = "binary_data_size"  # a parameter of an input: its bytes behind the JSON
CONTENT_TYPE = "content_type"  # MLServer's clients send it; the name of our inputs says the same
MAX_MEMBERS = 8  # of a list, other than data: each wrong one takes memory for an error of its own

ParameterValues = dict[str, Any] | None


class ProtocolObject(BaseModel):
    """An object of the protocol. Unknown members are ignored: KServe's client, for one, sends `model_name`."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


class InputTensor(ProtocolObject):
    """An input: its data is here, flat or nested, or in binary behind the JSON."""

    name: str
    shape: list[int] = Field(max_length=MAX_MEMBERS)
    datatype: str
    parameters: ParameterValues = None
    data: list[Any] | None = None


class RequestedOutput(ProtocolObject):
    """An output that the client wants."""

    name: str
    parameters: ParameterValues = None


class InferenceRequest(ProtocolObject):
    """The JSON object of a request."""

    id: str | None = None
    parameters: ParameterValues = None
    inputs: list[InputTensor] = Field(min_length=1, max_length=MAX_MEMBERS)
    outputs: list[RequestedOutput] | None = Field(None, max_length=MAX_MEMBERS)

    def options(self) -> dict[str, list[Any]]:
        """The parameters that are those of the other routes, each with its one value."""
        return {name: [value] for name, value in (self.parameters or {}).items() if name != BINARY_OUTPUT}

    def outputs_among(self, known: Sequence[str]) -> dict[str, bool]:
        """The names of the outputs to give, in order, and whether each is wanted in binary; by default all known."""
        default = _flag(self.parameters, BINARY_OUTPUT)
        if not self.outputs:
            return dict.fromkeys(known, default)
        chosen: dict[str, bool] = {}
        for output in self.outputs:
            if output.name not in known or output.name in chosen:
                problem = "is requested twice" if output.name in chosen else "does not exist"
                raise BadParameter(f'The output "{output.name[:MAX_ECHO]}" {problem}. There are {", ".join(known)}.')
            check_names(f'The output "{output.name}"', output.parameters, BINARY_DATA)
            chosen[output.name] = _flag(output.parameters, BINARY_DATA, default)
        return chosen


def split_body(body: bytes, json_length: str | None) -> tuple[bytes, bytes]:
    """The JSON of a body and the binary tensors behind it; `json_length` is the header that says where they begin.

    Raises RequestError if the header is no number, or larger than the body.
    """
    if json_length is None:
        return body, b""
    if not re.fullmatch(r"\d{1,12}", json_length, re.ASCII) or int(json_length) > len(body):
        raise RequestError(
            f"The header {TENSORS_START} is {json_length[:MAX_ECHO]!r}, and the body has {len(body)} bytes. Send the "
            "number of bytes of the JSON, which is the beginning of the body."
        )
    return body[: int(json_length)], body[int(json_length) :]


def read_request(content: bytes, max_values: int) -> InferenceRequest:
    """Read the JSON object of a request; raises RequestError if it is not of the protocol's form.

    It may have about `max_values` values, because a parser needs much memory for each.
    """
    if sum(content.count(character) for character in (b"{", b"[", b",")) > max_values:
        raise RequestError("The JSON has too many values. Send fewer rows, or send them in binary.")
    try:
        members = json.loads(content, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)[:MAX_ECHO]
        raise RequestError(
            f"The body is not JSON ({reason}). With binary tensors behind the JSON, the header {TENSORS_START} has to "
            "say where they begin."
        ) from None
    try:
        return InferenceRequest.model_validate(members)
    except ValidationError as error:
        raise RequestError(_format_error(error.errors()[0])) from None


def check_names(owner: str, parameters: ParameterValues, *known: str) -> None:
    """Raise BadParameter if an object of the protocol has a parameter that it cannot have here."""
    for name in parameters or {}:
        if name not in known:
            raise BadParameter(
                f"{owner} has the parameter {name[:MAX_ECHO]}, which this server does not know. Known: "
                f"{', '.join(known)}."
            )


def _flag(parameters: ParameterValues, name: str, default: bool = False) -> bool:
    value = (parameters or {}).get(name, default)
    if not isinstance(value, bool):
        raise BadParameter(f"The parameter {name} is {str(value)[:MAX_ECHO]!r}. It is true or false.")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"JSON has no {name}")


def _format_error(error: ErrorDetails) -> str:
    place = ".".join(map(str, error["loc"])) or "The JSON"
    if error["type"] == "missing":
        return f'The JSON has no {place}. Send {{"inputs": [{{"name", "shape", "datatype", "data"}}]}}.'
    return f"{place} is {str(error['input'])[:MAX_ECHO]!r}. {error['msg']}."
