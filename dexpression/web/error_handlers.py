"""Flask's error handlers: every exception in a route becomes a problem document."""

from __future__ import annotations

import re
from typing import Any

from flask import Flask, Response, current_app, g, request
from werkzeug.exceptions import HTTPException, InternalServerError

from dexpression.errors import OutOfMemory, PictureError
from dexpression.web.errors import RequestError
from dexpression.web.problems import (
    DETAILS,
    REQUEST_ID,
    encode_problem,
    error_problem,
    http_problem,
    new_request_id,
    problem,
)


def register_error_handlers(app: Flask) -> None:
    """Give every request an id, and turn every exception into a problem document."""

    @app.before_request
    def name_request() -> None:
        given = request.headers.get(REQUEST_ID, "")
        g.request_id = given if re.fullmatch(r"[\w.-]{1,64}", given, re.ASCII) else new_request_id()

    @app.after_request
    def return_request_id(response: Response) -> Response:
        response.headers[REQUEST_ID] = g.request_id
        return response

    @app.errorhandler(RequestError)
    @app.errorhandler(PictureError)
    @app.errorhandler(MemoryError)
    def handle_error(error: Exception) -> Response:
        return respond(problem_of(error))

    @app.errorhandler(HTTPException)
    def handle_http_error(error: HTTPException) -> Response:  # 404, 405, 413, and 500 for an unforeseen exception
        status = error.code or 500
        if isinstance(error, InternalServerError) and error.original_exception:
            _log_failure(error.original_exception)
        response = respond(http_problem(status, error.name, error.description or error.name, g.request_id))
        kept = (header for header in error.get_headers() if header[0] != "Content-Type")
        response.headers.extend(kept)  # such as Allow
        return response


def problem_of(error: Exception) -> dict[str, Any]:
    """The problem document of any exception; an unforeseen one is logged, and its text is not sent."""
    if isinstance(error, MemoryError):
        error = OutOfMemory()
    if isinstance(error, (RequestError, PictureError)):
        return error_problem(error, g.request_id)
    _log_failure(error)
    return problem(500, "internal_server_error", DETAILS[500], g.request_id)


def respond(members: dict[str, Any]) -> Response:
    """The response to the current request with a problem document."""
    body, headers = encode_problem(members, request.path)
    return Response(body, members["status"], headers)


def _log_failure(error: BaseException) -> None:
    current_app.logger.error("Request %s failed", g.request_id, exc_info=error)
