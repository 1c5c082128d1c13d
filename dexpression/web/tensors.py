"""The tensors of the Open Inference Protocol: pictures and crops in, labels and numbers out, in JSON or in binary."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from dexpression.errors import PictureError
from dexpression.web.errors import BadParameter, MissingFile, RequestError, TooManyPictures
from dexpression.web.inference_request import BINARY_SIZE, CONTENT_TYPE, InputTensor, check_names
from dexpression.web.parameters import MAX_ECHO
from dexpression.web.problems import TENSORS_START
from dexpression.web.uploads import MAX_PICTURES, decode_base64

BYTES, UINT8, INT32, FP32 = "BYTES", "UINT8", "INT32", "FP32"  # names of datatypes
NUMBERS: dict[str, Any] = {INT32: "<i4", FP32: "<f4"}  # NumPy's names, in the byte order of the protocol
LENGTH = struct.Struct("<I")  # before each element of BYTES in binary
DIGITS = 6  # of FP32 in JSON, which has no more precision


class OutputTensor(NamedTuple):
    """An output: texts of the shape (N,) for BYTES, or else an array."""

    name: str
    datatype: str
    values: Sequence[str] | np.ndarray

    def describe(self) -> dict[str, Any]:
        """Name, datatype and shape for the JSON of an answer."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(np.shape(self.values))}

    def to_json(self) -> dict[str, Any]:
        """The output with its data, which is flat."""
        values = np.asarray(self.values)
        rounded = values if self.datatype == BYTES else np.round(values, DIGITS)
        return self.describe() | {"data": rounded.ravel().tolist()}

    def to_binary(self) -> bytes:
        """The data alone, for the end of a body."""
        if self.datatype == BYTES:
            return b"".join(LENGTH.pack(len(text)) + text for text in map(str.encode, self.values))
        return np.asarray(self.values, NUMBERS[self.datatype]).tobytes()


def check_input(inputs: Sequence[InputTensor], known: Sequence[str]) -> InputTensor:
    """The one input of a request, which has one of the known names; raises BadParameter."""
    for tensor in inputs:
        if tensor.name not in known:
            raise BadParameter(f'There is no input "{tensor.name[:MAX_ECHO]}". Send one of {", ".join(known)}.')
    if len(inputs) != 1:
        raise BadParameter(f"The request has {len(inputs)} inputs. Send one of {', '.join(known)}.")
    return inputs[0]


def read_pictures(tensor: InputTensor, binary: bytes) -> list[bytes]:
    """The files in a tensor of the shape [N] or [N, 1]: as they are in `binary`, or else in base64.

    Raises RequestError for another shape, for lengths that do not fit, and for what is not base64.
    """
    _check(tensor, BYTES, [1] if len(tensor.shape) == 2 else [])
    count = tensor.shape[0]
    if _is_binary(tensor, binary):
        return _split_elements(tensor, binary, count)
    values = _flatten(tensor)
    if not all(isinstance(value, str) for value in values):
        raise RequestError(f'The data of the input "{tensor.name}" is not all text. Send each picture in base64.')
    pictures = []
    for number, value in enumerate(values, 1):
        with naming_picture(number, count):
            pictures.append(decode_base64(value))
    return pictures


@contextmanager
def naming_picture(number: int, count: int) -> Iterator[None]:
    """Let an error in the block say in which of several pictures it is."""
    try:
        yield
    except (PictureError, RequestError) as error:
        if count > 1:
            error.args = (f"Picture {number} of {count}: {error}",)
        raise


def read_crops(tensor: InputTensor, binary: bytes, height: int, width: int) -> np.ndarray:
    """The grey pixels in a tensor of the shape [N, 1, height, width], as (N, height, width).

    Raises RequestError for another shape, for bytes that do not fill it, and for numbers that are not whole or not in
    0..255.
    """
    _check(tensor, UINT8, [1, height, width])
    size = math.prod(tensor.shape)
    if _is_binary(tensor, binary):
        if len(binary) != size:
            raise RequestError(
                f'The input "{tensor.name}" has {len(binary)} bytes, and its shape {tensor.shape} has {size}. '
                "Send one byte for each pixel."
            )
        pixels = binary
    else:
        values = _flatten(tensor)
        if not all(type(value) is int and 0 <= value <= 255 for value in values):
            raise RequestError(f'The data of the input "{tensor.name}" is not all whole numbers from 0 to 255.')
        pixels = bytes(values)
    return np.frombuffer(pixels, np.uint8).reshape(tensor.shape[0], height, width)


def _check(tensor: InputTensor, datatype: str, inner: Sequence[int]) -> None:
    """Check all that a tensor declares: `inner` are the dimensions behind the first, the number of rows."""
    if tensor.datatype != datatype:
        raise RequestError(
            f'The input "{tensor.name}" has the datatype {tensor.datatype[:MAX_ECHO]!r}. Send it as {datatype}.'
        )
    if len(tensor.shape) < 1 or tensor.shape[0] < 0 or tensor.shape[1:] != list(inner):
        shape = ", ".join(["N", *map(str, inner)])
        raise RequestError(f'The input "{tensor.name}" has the shape {_shown(tensor.shape)}. Send it as [{shape}].')
    if tensor.shape[0] == 0:
        raise MissingFile(f'The input "{tensor.name}" has no row. Send 1 to {MAX_PICTURES}.')
    if tensor.shape[0] > MAX_PICTURES:
        raise TooManyPictures(
            f'The input "{tensor.name}" has {_shown(tensor.shape[0])} rows. Send at most {MAX_PICTURES} in one request.'
        )
    check_names(f'The input "{tensor.name}"', tensor.parameters, BINARY_SIZE, CONTENT_TYPE)


def _is_binary(tensor: InputTensor, binary: bytes) -> bool:
    """Whether the data of a tensor, the only one of its request, is behind the JSON; raises RequestError."""
    size = (tensor.parameters or {}).get(BINARY_SIZE)
    if (size is None) == (tensor.data is None):
        problem = "neither data nor" if size is None else "both data and"
        raise RequestError(f'The input "{tensor.name}" has {problem} the parameter {BINARY_SIZE}. Send one of them.')
    expected = 0 if size is None else size
    if type(expected) is not int or expected != len(binary):
        raise RequestError(
            f'The input "{tensor.name}" has {_shown(expected)} bytes in binary, and {len(binary)} follow the JSON, '
            f"which ends where the header {TENSORS_START} says. Make {BINARY_SIZE} and the header fit the body."
        )
    return size is not None


def _split_elements(tensor: InputTensor, binary: bytes, count: int) -> list[bytes]:
    """Split bytes in which each element has its length before it; raises RequestError unless they fit exactly."""
    elements: list[bytes] = []
    position = 0
    while position + LENGTH.size <= len(binary) and len(elements) < count:
        start = position + LENGTH.size
        position = start + LENGTH.unpack_from(binary, position)[0]
        elements.append(binary[start:position])
    if len(elements) != count or position != len(binary):
        raise RequestError(
            f'The bytes of the input "{tensor.name}" are not {count} elements. Before each, send its length in four '
            "bytes, the lowest first."
        )
    return elements


def _flatten(tensor: InputTensor) -> list[Any]:
    """The data of a tensor, flat, from data that is flat or nested as its shape says; raises RequestError."""
    values, fits = tensor.data or [], True
    if values and isinstance(values[0], list):
        fits = len(values) == tensor.shape[0]
        for size in tensor.shape[1:]:
            fits = fits and all(isinstance(value, list) and len(value) == size for value in values)
            values = list(chain.from_iterable(values)) if fits else []
    if not fits or len(values) != math.prod(tensor.shape):
        raise RequestError(
            f'The data of the input "{tensor.name}" does not fill its shape {tensor.shape}. Send {tensor.shape[0]} '
            "rows, flat or nested as the shape says."
        )
    return values


def _shown(value: object) -> str:
    """What the request has, shortened."""
    text = str(value)
    return text if len(text) <= MAX_ECHO else f"{text[:MAX_ECHO]}..."
