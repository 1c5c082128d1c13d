"""The one shape in which every error leaves the server: problem+json (RFC 9457)."""

from __future__ import annotations

import json
import re
import uuid
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, current_app, g, request
from werkzeug.exceptions import HTTPException, InternalServerError

from dexpression.errors import RequestError, TooLittleMemory
from dexpression.web.metrics import REJECTS

CONTENT_TYPE = "application/problem+json"
REQUEST_ID = "X-Request-ID"

# What the libraries say of these is true but helps nobody to mend the request.
HELP = {
    400: "This is no request that the server understands. Send one as curl -F file=@face.jpg does.",
    404: "There is nothing at this address. POST a picture to /, or see GET /docs for the rest.",
    405: "This address does not take this method; the Allow header lists those that it takes.",
    431: "The request's header is larger than this server takes. Leave cookies and long fields out.",
    413: "The request is larger than this server takes. Scale the picture down and send it again.",
    500: "The server failed to answer. Its log has the reason under this request id.",
}
CODES = {413: "payload_too_large"}  # the others are called as HTTP calls them


def problem_members(status: int, code: str, detail: str, request_id: str) -> dict[str, Any]:
    """Those of RFC 9457, and `code` (stable), `error` (the same text as `detail`) and `request_id`; counted."""
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


def problem_of(error: Exception) -> dict[str, Any]:
    """The members for an error of ours, or of nobody's making: the latter is logged and answered blandly."""
    status, code, said = 500, "internal_server_error", HELP[500]
    if isinstance(error, MemoryError):
        error = TooLittleMemory()
    if isinstance(error, RequestError):
        status, code, said = error.status, error.code, str(error)
    if status == 500:
        log_failure(error)
    return problem_members(status, code, said, g.request_id)


def problem_body(error: RequestError, request_id: str) -> bytes:
    """A whole body, of an error of ours that no route has raised."""
    return json.dumps(problem_members(error.status, error.code, str(error), request_id)).encode()


def log_failure(error: BaseException) -> None:
    current_app.logger.error("Request %s failed", g.request_id, exc_info=error)


def http_problem(status: int, name: str, said: str, request_id: str) -> bytes:
    """A whole body, of an error that a library has given a status, a name and a text."""
    code = CODES.get(status) or name.lower().replace(" ", "_")
    return json.dumps(problem_members(status, code, HELP.get(status, said), request_id)).encode()


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
        return Response(json.dumps(problem_of(error)), error.status, error.headers, content_type=CONTENT_TYPE)

    @app.errorhandler(MemoryError)
    def short_of_memory(error: MemoryError) -> Response:
        return refused(TooLittleMemory())

    @app.errorhandler(HTTPException)
    def http_failure(error: HTTPException) -> Response:  # 404, 405, 413, and 500 for the unforeseen
        status = error.code or 500
        if isinstance(error, InternalServerError) and error.original_exception:
            log_failure(error.original_exception)
        body = http_problem(status, error.name, error.description or error.name, g.request_id)
        response = Response(body, status, content_type=CONTENT_TYPE)
        kept = (header for header in error.get_headers() if header[0] != "Content-Type")
        response.headers.extend(kept)  # such as Allow
        return response
