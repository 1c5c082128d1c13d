"""Read a request: pictures as multipart parts, a raw body, or base64 in JSON, and the options beside them."""

from __future__ import annotations

import base64
import binascii
import io
import re
import string
from collections.abc import Sequence
from typing import IO, Any, NamedTuple

from flask import Request
from pydantic import ValidationError

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
MAX_NAMES = 5  # of parts or members, that an error repeats
FORM, JSON = "multipart/form-data", "application/json"
FORM_START = re.compile(rb"\s*--[^\r\n]+\r?\nContent-Disposition:\s*form-data", re.IGNORECASE)
JSON_START = re.compile(rb"\s*[{\[]")
WAYS = (
    'Send a part "file" (curl -F file=@face.jpg), or the picture alone with its content type '
    '(curl --data-binary @face.jpg -H \'Content-Type: image/jpeg\'), or JSON {"image": "<base64 or data URL>"}.'
)


class MemoryRequest(Request):
    """A request whose uploads stay in memory; by default werkzeug writes parts over 500 kB to disk."""

    def _get_file_stream(
        self,
        total_content_length: int | None,
        content_type: str | None,
        filename: str | None = None,
        content_length: int | None = None,
    ) -> IO[bytes]:
        return io.BytesIO()


class Uploads(NamedTuple):
    """The pictures of a request, in the order in which they were sent, and the options that stand beside them."""

    pictures: list[bytes]  # at least one
    options: dict[str, list[Any]]  # the values of each form field or JSON member, by its name


def read_uploads(request: Request) -> Uploads:
    """Read the pictures of a request and the options in its body.

    Raises MissingFile, TooManyPictures, BadBase64, UnsupportedMediaType or, for another bad form or JSON, RequestError.
    """
    kind, body = request.mimetype, request.get_data()
    if find_format(body):  # whatever the type says
        return Uploads([body], {})
    _check_type(kind, body)
    if kind == JSON:
        return _read_json(request)
    if kind == FORM:
        return _read_form(request)
    if not body and not kind.startswith("image/"):
        raise MissingFile(f"The request has no picture. {WAYS}")
    return Uploads([body], {})  # decoding it tells what it is


def _check_type(kind: str, body: bytes) -> None:
    """Refuse forms that can hold no file, and a body that is a form or JSON under another type."""
    found = FORM if FORM_START.match(body) else JSON if JSON_START.match(body) else None
    if kind == found:
        return
    came = f"has the content type {kind[:MAX_ECHO] or '(none)'}"
    if found == FORM:
        raise UnsupportedMediaType(
            f"The body is a form and {came}. Leave this header to the client, which sets {FORM}."
        )
    if found == JSON and kind != FORM:
        raise UnsupportedMediaType(f"The body is JSON and {came}. Send it with the content type {JSON}.")
    if kind == "application/x-www-form-urlencoded" and body:
        raise UnsupportedMediaType(f"The body {came}, which can hold no picture. {WAYS}")


def _read_form(request: Request) -> Uploads:
    _check_form(request.get_data(), request.mimetype_params.get("boundary", ""))
    uploads = request.files.getlist("file")
    others = [name for name, file in request.files.items(multi=True) if name != "file" and file.filename]
    if not uploads:
        raise MissingFile(f"{_describe_form(others, list(request.form))} {WAYS}")
    if others:
        raise BadParameter(f'The form has files in the {_names("part", others)}. Send every picture in a part "file".')
    if len(uploads) > MAX_PICTURES:
        raise TooManyPictures(f"The request has {len(uploads)} pictures. Send at most {MAX_PICTURES} in one request.")
    return Uploads([upload.read() for upload in uploads], request.form.to_dict(flat=False))


def _describe_form(files: Sequence[object], fields: Sequence[object]) -> str:
    """Why a form without a file in the part "file" has no picture, and how to correct it."""
    if "file" in fields:
        return 'The part "file" has no file name, which makes it text. Give it one: append("file", blob, "face.jpg").'
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
    members = request.get_json()
    try:
        body = JsonPicture.model_validate(members)
    except ValidationError:
        raise MissingFile(f'{_describe_json(members)} Send {{"image": "<base64 or data URL>"}}.') from None
    return Uploads([_decode(body.image)], {name: [value] for name, value in (body.model_extra or {}).items()})


def _describe_json(value: object) -> str:
    if not isinstance(value, dict):
        return "The JSON is no object with members."
    if "image" in value:
        return 'The member "image" of the JSON is no text.'
    if not value:
        return "The JSON has no members."
    return f'The JSON has the {_names("member", list(value))} and no "image".'


def _decode(text: str) -> bytes:
    """Decode base64, with or without the head of a data URL (data:image/png;base64,)."""
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
