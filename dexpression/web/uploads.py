"""Read a request: pictures as multipart parts, a raw body, or base64 in JSON, and the options beside them."""

from __future__ import annotations

import base64
import binascii
import re
import string
from collections.abc import Sequence
from typing import Any, NamedTuple

from flask import Request
from pydantic import ValidationError
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

from dexpression.kinds import find_format
from dexpression.web.errors import (
    BadBase64,
    BadParameter,
    MissingFile,
    RequestError,
    TooManyPictures,
    UnsupportedMediaType,
)
from dexpression.web.parameters import MAX_ECHO, JsonPicture

MAX_PICTURES = 32  # in one request; a picture of one colour has few bytes and many pixels
# Parsers need up to 0.2 us and 40 bytes of memory for each byte of the following, and a picture needs next to none.
MAX_PARTS = 100  # of a form: pictures and other fields
MAX_PART_HEADERS = 8_192  # bytes, of one part; a browser sends the name of the file in 256
MAX_JSON_STRUCTURE = 100  # brackets and commas; base64 has none of them
PARSED_BYTES = 65_536  # of a form at a time; werkzeug's parser copies all that it has not parsed yet
MAX_NAMES = 5  # of parts or members, that an error repeats
FORM, JSON = "multipart/form-data", "application/json"
FORM_START = re.compile(rb"\s*--[^\r\n]+\r?\nContent-Disposition:\s*form-data", re.IGNORECASE)
JSON_START = re.compile(rb"\s*[{\[]")
WAYS = (
    'Send a part "file" (curl -F file=@face.jpg), or the picture alone with its content type '
    '(curl --data-binary @face.jpg -H \'Content-Type: image/jpeg\'), or JSON {"image": "<base64 or data URL>"}.'
)


class Uploads(NamedTuple):
    """The pictures of a request, in the order in which they were sent, and the options that stand beside them."""

    pictures: list[bytes]  # at least one
    options: dict[str, list[Any]]  # the values of each form field or JSON member, by its name


def read_uploads(request: Request) -> Uploads:
    """Read the pictures of a request and the options in its body.

    Raises MissingFile, TooManyPictures, BadBase64, UnsupportedMediaType or, for another bad form or JSON, RequestError.
    """
    kind, body = request.mimetype, read_body(request)
    if find_format(body):  # whatever the type says
        return Uploads([body], {})
    if kind == FORM:
        return _read_form(request)
    is_json = JSON_START.match(body)  # curl, wget, urllib and fetch send text with types of their own
    if not is_json:
        _check_type(kind, body)
    if is_json or kind == JSON:
        return _read_json(request)
    if not body and not kind.startswith("image/"):
        raise MissingFile(f"The request has no picture. {WAYS}")
    return Uploads([body], {})  # decoding it tells what it is


def read_body(request: Request) -> bytes:
    """The body of a request; raises UnsupportedMediaType if it is compressed."""
    if (encoding := request.headers.get("Content-Encoding", "identity")) != "identity":
        raise UnsupportedMediaType(
            f"The body has the Content-Encoding {encoding[:MAX_ECHO]}. Send it without: pictures are small already."
        )
    return request.get_data()


def _check_type(kind: str, body: bytes) -> None:
    """Refuse a form of a page, which can hold no file, and a form under another type."""
    came = f"has the content type {kind[:MAX_ECHO] or '(none)'}"
    if FORM_START.match(body):
        raise UnsupportedMediaType(
            f"The body is a form and {came}. Leave this header to the client, which sets {FORM}."
        )
    if kind == "application/x-www-form-urlencoded" and body:
        raise UnsupportedMediaType(f"The body {came}, which can hold no picture. {WAYS}")


class Part(NamedTuple):
    """A part of a form. The file name is None if the part has none, and empty for a file field that was left empty."""

    name: str
    file_name: str | None
    content: bytearray


def _read_form(request: Request) -> Uploads:
    body, boundary = request.get_data(), request.mimetype_params.get("boundary", "")
    _check_form(body, boundary)
    try:
        parts = _split_form(body, boundary.encode(errors="replace"))
    except ValueError:
        raise RequestError(f"The form is cut off, or a part has damaged headers. {WAYS}") from None
    pictures = [bytes(part.content) for part in parts if part.name == "file"]
    others = [part.name for part in parts if part.name != "file" and part.file_name]
    fields = [part for part in parts if part.name != "file" and part.file_name is None]
    if not pictures:
        raise MissingFile(f"{_describe_form(others, [part.name for part in fields])} {WAYS}")
    if others:
        raise BadParameter(f'The form has files in the {_names("part", others)}. Send every picture in a part "file".')
    if len(pictures) > MAX_PICTURES:
        raise TooManyPictures(f"The request has {len(pictures)} pictures. Send at most {MAX_PICTURES} in one request.")
    options: dict[str, list[Any]] = {}
    for part in fields:
        options.setdefault(part.name, []).append(part.content.decode(errors="replace"))
    return Uploads(pictures, options)


def _split_form(body: bytes, boundary: bytes) -> list[Part]:
    """All parts of a form; Flask would take a picture without a file name, as axios and others send it, for text."""
    decoder = MultipartDecoder(boundary)
    parts: list[Part] = []
    for start in range(0, len(body) + PARSED_BYTES, PARSED_BYTES):
        decoder.receive_data(body[start : start + PARSED_BYTES] or None)  # None: the end
        while not isinstance(event := decoder.next_event(), (Epilogue, NeedData)):
            if isinstance(event, (Field, File)):
                parts.append(Part(event.name or "(without a name)", getattr(event, "filename", None), bytearray()))
            elif isinstance(event, Data):
                parts[-1].content.extend(event.data)
    return parts


def _describe_form(files: Sequence[object], fields: Sequence[object]) -> str:
    """Why a form without a file in the part "file" has no picture, and how to correct it."""
    if files:
        return f'The form has a file in the {_names("part", files)} and none in a part "file". Rename it to "file".'
    if fields:
        return f'The form has the {_names("part", fields)} and no part "file".'
    return 'The form has no part "file".'


def _names(noun: str, names: Sequence[object]) -> str:
    """The noun, in the plural for several names, and the first of the names."""
    shown = ", ".join(f'"{str(name)[:MAX_ECHO]}"' for name in names[:MAX_NAMES])
    return f"{noun}{'' if len(names) == 1 else 's'} {shown}{', ...' if len(names) > MAX_NAMES else ''}"


def _check_form(body: bytes, boundary: str) -> None:
    """Refuse a form that is slow to parse: without a part near its start, of many parts, or with long headers."""
    if not boundary:
        raise MissingFile(
            f"The content type {FORM} has no boundary. Leave this header to the client, which sets it. {WAYS}"
        )
    delimiter = b"--" + boundary.encode(errors="replace")
    first = rb"(?:^|[\r\n])" + re.escape(delimiter) + rb"[^\S\r\n]*(?:[\r\n]|--)"
    if not re.search(first, body[:MAX_PART_HEADERS]):
        named = boundary[:MAX_ECHO]
        raise MissingFile(f'No part begins with the boundary "{named}" that the content type names. {WAYS}')
    if body.count(delimiter) > MAX_PARTS + 1:
        raise TooManyPictures(
            f"The form has over {MAX_PARTS} parts. Send at most {MAX_PICTURES} pictures in one request."
        )
    position = 0
    while (position := body.find(delimiter, position)) >= 0:
        headers = body[position : position + MAX_PART_HEADERS]
        if len(headers) == MAX_PART_HEADERS and not re.search(rb"\r\n\r\n|\n\n|\r\r", headers):
            raise RequestError(f"A part of the form has over {MAX_PART_HEADERS} bytes of headers. {WAYS}")
        position += len(delimiter)


def _read_json(request: Request) -> Uploads:
    content = request.get_data()
    if sum(content.count(character) for character in (b"{", b"[", b",")) > MAX_JSON_STRUCTURE:
        raise RequestError('The JSON has too many values. Send {"image": "<base64 or data URL>"}.')
    members = request.get_json(force=True)
    try:
        body = JsonPicture.model_validate(members)
    except ValidationError:
        raise MissingFile(f'{_describe_json(members)} Send {{"image": "<base64 or data URL>"}}.') from None
    options = {name: [value] for name, value in members.items() if name not in JsonPicture.model_fields}
    return Uploads([decode_base64(body.image)], options)


def _describe_json(value: object) -> str:
    if not isinstance(value, dict):
        return "The JSON is no object with members."
    if "image" in value:
        return 'The member "image" of the JSON is no text.'
    if not value:
        return "The JSON has no members."
    return f'The JSON has the {_names("member", list(value))} and no "image".'


def decode_base64(text: str) -> bytes:
    """Decode base64, with or without the head of a data URL (data:image/png;base64,); raises BadBase64."""
    head, comma, rest = text.partition(",")
    if comma and not re.fullmatch(r"\s*data:.*;base64", head, re.IGNORECASE):
        raise BadBase64("The image is not a base64 data URL. Such a URL begins like data:image/jpeg;base64,")
    try:
        encoded = (rest if comma else text).encode("ascii").translate(None, string.whitespace.encode())
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise BadBase64(
            "The image is not valid base64. Use letters, digits, + and /, padded with = to a multiple of 4."
        ) from None
