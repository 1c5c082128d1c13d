"""Response headers that limit what a browser may do with an answer."""

from __future__ import annotations

from flask import Flask, Response, request

ALWAYS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
# The page shows pictures and videos as blobs; everything else comes from this server, and nothing is inline.
PAGE_SOURCES = (
    "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'"
)
PAGE = f"{PAGE_SOURCES}; frame-ancestors 'none'"
DATA = "default-src 'none'; frame-ancestors 'none'"
DOCS = "frame-ancestors 'none'"  # Swagger UI writes styles into its own page


def add_security_headers(app: Flask) -> None:
    """Add the security headers to every response of the app."""

    @app.after_request
    def protect(response: Response) -> Response:
        endpoint = request.endpoint or ""
        policy = PAGE if endpoint == "page" else DOCS if endpoint.startswith("swagger_ui") else DATA
        response.headers.update(ALWAYS)
        response.headers["Content-Security-Policy"] = policy
        return response
