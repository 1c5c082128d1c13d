"""Headers that keep browsers from doing more with an answer than it is meant for."""

from __future__ import annotations

from flask import Flask, Response, request

ALWAYS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
# The page shows pictures and films that it was given as blobs; all else comes from this server, nothing is inline.
PAGE = (
    "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
DATA = "default-src 'none'; frame-ancestors 'none'"
DOCS = "frame-ancestors 'none'"  # Swagger UI writes styles into its own page


def protect_answers(app: Flask) -> None:
    """Add them to every answer."""

    @app.after_request
    def protect(response: Response) -> Response:
        endpoint = request.endpoint or ""
        policy = PAGE if endpoint == "page" else DOCS if endpoint.startswith("swagger_ui") else DATA
        response.headers.update(ALWAYS)
        response.headers["Content-Security-Policy"] = policy
        return response
