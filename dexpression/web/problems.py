"""The one shape in which every error leaves the server: problem+json (RFC 9457)."""

from __future__ import annotations

import json
import re
import uuid
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException

from dexpression.errors import RequestError

CONTENT_TYPE = "application/problem+json"
REQUEST_ID = "X-Request-ID"

# What werkzeug says of these is true but helps nobody to mend the request.
HELP = {
    404: "There is nothing at this address. POST a picture to /, or GET /health/ready.",
    405: "This address does not take this method; the Allow header lists those that it takes.",
    413: "The request is larger than this server takes. Scale the picture down and send it again.",
    500: "The server failed to answer. Its log has the reason under this request id.",
}


def problem_body(status: int, code: str, detail: str, request_id: str) -> bytes:
    """The members of RFC 9457, and `code` (stable), `error` (the same text as `detail`) and `request_id`."""
    members: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "error": detail,
        "request_id": request_id,
    }
    return json.dumps(members).encode()


def new_request_id() -> str:
    return uuid.uuid4().hex


def register_problems(app: Flask) -> None:
    """Give every request an id, and every error of `app` the one shape."""

    @app.before_request
    def name_request() -> None:
        given = request.headers.get(REQUEST_ID, "")
        g.request_id = given if re.fullmatch(r"[\w.-]{1,64}", given, re.ASCII) else new_request_id()

    @app.after_request
    def return_request_id(response: Response) -> Response:
        response.headers[REQUEST_ID] = g.request_id
        return response

    @app.errorhandler(RequestError)
    def refused(error: RequestError) -> Response:
        return _problem(error.status, error.code, str(error))

    @app.errorhandler(HTTPException)
    def http_failure(error: HTTPException) -> Response:  # 404, 405, 413, and 500 for the unforeseen, which Flask logs
        status = error.code or 500
        response = _problem(status, _code(error), HELP.get(status) or error.description or error.name)
        kept = (header for header in error.get_headers() if header[0] != "Content-Type")
        response.headers.extend(kept)  # such as Allow
        return response


def _problem(status: int, code: str, detail: str) -> Response:
    return Response(problem_body(status, code, detail, g.request_id), status, content_type=CONTENT_TYPE)


def _code(error: HTTPException) -> str:
    return "payload_too_large" if error.code == 413 else error.name.lower().replace(" ", "_")
