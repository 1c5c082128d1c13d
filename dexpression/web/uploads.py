"""Read the bytes of all pictures in a request: multipart parts, a raw body, or base64 in JSON."""

from __future__ import annotations

import base64
import binascii
import io
import re
from typing import IO

from flask import Request
from pydantic import ValidationError
from werkzeug.exceptions import BadRequest

from dexpression.web.errors import BadBase64, MissingFile, TooManyPictures, UnsupportedMediaType
from dexpression.web.parameters import MAX_ECHO, JsonPicture

MAX_PICTURES = 32  # in one request; a picture of one colour has few bytes and many pixels
FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")
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


def read_uploads(request: Request) -> list[bytes]:
    """Read the pictures of a request in the order in which they were sent; at least one.

    Raises MissingFile, TooManyPictures, BadBase64 or UnsupportedMediaType.
    """
    kind = request.mimetype
    if kind.startswith("image/"):
        return [request.get_data()]
    if kind == "application/json":
        return [_decode(_json_picture(request))]
    if kind in FORMS or not request.content_length:
        return _parts(request)
    raise UnsupportedMediaType(f"Unsupported content type {kind[:MAX_ECHO] or '(none)'}. {WAYS}")


def _parts(request: Request) -> list[bytes]:
    uploads = request.files.getlist("file")
    if not uploads:
        raise MissingFile(f'The request has no part "file" with a picture. {WAYS}')
    if len(uploads) > MAX_PICTURES:
        raise TooManyPictures(f"The request has {len(uploads)} pictures. Send at most {MAX_PICTURES} in one request.")
    return [upload.read() for upload in uploads]


def _json_picture(request: Request) -> str:
    try:
        return JsonPicture.model_validate(request.get_json()).image
    except ValidationError:
        raise MissingFile('The JSON has no picture. Send {"image": "<base64 or data URL>"}.') from None
    except RecursionError:  # JSON that is nested too deeply
        raise BadRequest from None


def _decode(text: str) -> bytes:
    """Decode base64, with or without the head of a data URL (data:image/png;base64,)."""
    head, comma, rest = text.partition(",")
    if comma and not re.fullmatch(r"\s*data:.*;base64", head, re.IGNORECASE):
        raise BadBase64("The image is not a base64 data URL. Such a URL begins like data:image/jpeg;base64,")
    try:
        return base64.b64decode("".join((rest if comma else text).split()), validate=True)
    except (binascii.Error, ValueError):
        raise BadBase64(
            "The image is not valid base64. Use letters, digits, + and /, padded with = to a multiple of 4."
        ) from None
