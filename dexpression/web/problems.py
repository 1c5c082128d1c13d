"""Problem documents: the form of every error that leaves the server (problem+json, RFC 9457).

Only the paths of the Open Inference Protocol, below /v2, have errors in the form of that protocol.

Both the Flask application and the HTTP server below it make their error responses here, without Flask.
"""

from __future__ import annotations

import json
import uuid
from http import HTTPStatus
from typing import Any

from dexpression.errors import PictureError
from dexpression.web.errors import HEADERS, STATUSES, RequestError
from dexpression.web.metrics import REJECTS

CONTENT_TYPE = "application/problem+json"
PROTOCOL_PATH = "/v2"  # of the Open Inference Protocol, with all paths below it
REQUEST_ID = "X-Request-ID"
FACES = "X-Faces"  # the number of faces in the picture, at POST /, whose body has no place for it
HINT = "X-Hint"  # how to get a better answer
TENSORS_START = "Inference-Header-Content-Length"  # where binary tensors begin in a body of the protocol, behind JSON
MODEL = "X-Model-SHA256"  # the model that answered, which may be replaced while the server runs

# Better texts than those of werkzeug and waitress, which do not say how to fix the request.
DETAILS = {
    400: "The server does not understand this request. Send one as curl -F file=@face.jpg does.",
    404: "There is nothing at this address. POST a picture to /, or see GET /docs for the other routes.",
    405: "This address does not allow this method. The Allow header lists the methods that it allows.",
    413: "The request is larger than this server allows. Scale the picture down and send it again.",
    431: "The request's headers are larger than this server allows. Leave out cookies and long fields.",
    500: "The server failed to answer. Its log has the reason under this request id.",
}


def error_problem(error: RequestError | PictureError, request_id: str) -> dict[str, Any]:
    """The problem document of a RequestError or a PictureError."""
    return problem(STATUSES[error.code], error.code, str(error), request_id)


def http_problem(status: int, name: str, text: str, request_id: str) -> dict[str, Any]:
    """The problem document of an HTTP error of werkzeug or waitress, which has a status, a name and a text."""
    code = "payload_too_large" if status == 413 else name.lower().replace(" ", "_")
    return problem(status, code, DETAILS.get(status, text), request_id)


def problem(status: int, code: str, detail: str, request_id: str) -> dict[str, Any]:
    """The members of RFC 9457, and `code`, `error` (the same text as `detail`) and `request_id`; counts the error."""
    REJECTS.labels(code).inc()
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "error": detail,
        "request_id": request_id,
    }


def encode_problem(members: dict[str, Any], path: str) -> tuple[bytes, dict[str, str]]:
    """The body and the headers of a response with this problem document to a request for this path."""
    headers = {"Content-Type": CONTENT_TYPE, REQUEST_ID: members["request_id"]} | HEADERS.get(members["code"], {})
    if is_protocol_path(path):
        # The Open Inference Protocol has a form of its own, and KServe's client reads no error of another type.
        return json.dumps({"error": members["error"]}).encode(), headers | {"Content-Type": "application/json"}
    return json.dumps(members).encode(), headers


def is_protocol_path(path: str) -> bool:
    """Whether this is an address of the Open Inference Protocol, known or not."""
    return path == PROTOCOL_PATH or path.startswith(f"{PROTOCOL_PATH}/")


def new_request_id() -> str:
    """A random id of 32 hexadecimal digits."""
    return uuid.uuid4().hex
