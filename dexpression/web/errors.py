"""The errors of a request, and the HTTP status and headers of every error code."""

from __future__ import annotations

from typing import ClassVar

from dexpression.errors import DeXpressionError

# By the code of a RequestError, of a PictureError, or of an unforeseen exception.
STATUSES = {
    "bad_request": 400,
    "missing_file": 400,
    "empty_file": 400,
    "bad_base64": 400,
    "bad_parameter": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "payload_too_large": 413,
    "unsupported_media_type": 415,
    "misdirected_request": 421,
    "undecodable_image": 422,
    "too_many_pixels": 422,
    "too_complex": 422,
    "no_face": 422,
    "internal_server_error": 500,
    "not_ready": 503,
    "overloaded": 503,
}
HEADERS = {
    "not_ready": {"Retry-After": "1"},
    "overloaded": {"Retry-After": "1"},
    "unauthorized": {"WWW-Authenticate": "Bearer"},
}


class RequestError(DeXpressionError):
    """A request cannot be answered. `code` is stable; the message may be reworded."""

    code: ClassVar[str] = "bad_request"


class MissingFile(RequestError):
    """The request has no picture."""

    code = "missing_file"


class BadBase64(RequestError):
    """The picture in a JSON request is not valid base64."""

    code = "bad_base64"


class BadParameter(RequestError):
    """A parameter is unknown, repeated, or has a value that is not allowed."""

    code = "bad_parameter"


class TooManyPictures(RequestError):
    """The request has more pictures than are allowed."""

    code = "payload_too_large"


class UnsupportedMediaType(RequestError):
    """The content type of the request is not one of the accepted types."""

    code = "unsupported_media_type"


class FilmUploaded(UnsupportedMediaType):
    """The file is a film."""

    def __init__(self) -> None:
        super().__init__(
            "The file is a film. Films are not read over HTTP, where each answer keeps a worker from all others. "
            "Run: dexpression video FILM, where the film lies. Or send its frames as pictures, one after the other."
        )


class NoFace(RequestError):
    """The picture has no face, and the request asked for an error in this case."""

    code = "no_face"


class NotReady(RequestError):
    """The server stops, or cannot predict."""

    code = "not_ready"


class Overloaded(RequestError):
    """The server has more work than it can do soon."""

    code = "overloaded"


class Unauthorized(RequestError):
    """The request lacks the server's token."""

    code = "unauthorized"


class Forbidden(RequestError):
    """The request comes from a web page that may not read the answer."""

    code = "forbidden"


class MisdirectedRequest(RequestError):
    """The request names a host that is not this server."""

    code = "misdirected_request"


class TooSlow(RequestError):
    """The request takes longer than it may."""

    code = "too_complex"
