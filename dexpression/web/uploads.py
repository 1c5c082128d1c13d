"""HTTP request -> the bytes of its pictures, in any of the three forms that people send."""

from __future__ import annotations

import base64
import binascii
import io
import re
from typing import IO

from flask import Request
from pydantic import ValidationError
from werkzeug.exceptions import BadRequest

from dexpression.errors import BadBase64, MissingFile, TooManyPictures, UnsupportedMediaType
from dexpression.web.parameters import JsonPicture

MAX_PICTURES = 32  # in one request: a picture of one colour has few bytes and many pixels
FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")
WAYS = (
    'Send a part "file" (curl -F file=@face.jpg), or the picture alone with its type '
    '(curl --data-binary @face.jpg -H \'Content-Type: image/jpeg\'), or JSON {"image": "<base64 or data URL>"}.'
)


class MemoryRequest(Request):
    """A request whose upload stays in memory: werkzeug puts parts of more than 500 kB into a file on disk."""

    def _get_file_stream(
        self,
        total_content_length: int | None,
        content_type: str | None,
        filename: str | None = None,
        content_length: int | None = None,
    ) -> IO[bytes]:
        return io.BytesIO()


def read_uploads(request: Request) -> list[bytes]:
    """In the order in which they were sent, at least one.

    Raises MissingFile, TooManyPictures, BadBase64 or UnsupportedMediaType.
    """
    kind = request.mimetype
    if kind.startswith("image/"):
        return [request.get_data()]
    if kind == "application/json":
        return [_decode(_json_picture(request))]
    if kind in FORMS or not request.content_length:
        return _parts(request)
    raise UnsupportedMediaType(f"A body of the type {kind or 'unknown'} is no picture that is understood. {WAYS}")


def _parts(request: Request) -> list[bytes]:
    uploads = request.files.getlist("file")
    if not uploads:
        raise MissingFile(f'The request has no part "file" with a picture. {WAYS}')
    if len(uploads) > MAX_PICTURES:
        raise TooManyPictures(f"The request has {len(uploads)} pictures. Send at most {MAX_PICTURES} at once.")
    return [upload.read() for upload in uploads]


def _json_picture(request: Request) -> str:
    try:
        return JsonPicture.model_validate(request.get_json()).image
    except ValidationError:
        raise MissingFile('The JSON has no picture. Send {"image": "<base64 or data URL>"}.') from None
    except RecursionError:  # of nothing but brackets
        raise BadRequest from None


def _decode(text: str) -> bytes:
    """Base64, alone or behind the head of a data URL (data:image/png;base64,)."""
    head, comma, rest = text.partition(",")
    if comma and not re.fullmatch(r"\s*data:.*;base64", head, re.IGNORECASE):
        raise BadBase64("The image is no data URL in base64. Such a one begins like data:image/jpeg;base64,")
    try:
        return base64.b64decode("".join((rest if comma else text).split()), validate=True)
    except (binascii.Error, ValueError):
        raise BadBase64("The image is not in base64: letters, digits, + and /, padded with = to fours.") from None
