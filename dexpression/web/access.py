"""Access control: a bearer token, if the server has one."""

from __future__ import annotations

import hmac

from flask import Flask, request

from dexpression.web.errors import Unauthorized

PUBLIC_ENDPOINTS = {"page", "client", "static", "document", "live", "ready"}  # needed before a token can be sent


def require_token(app: Flask, token: str) -> None:
    """Require `Authorization: Bearer <token>` on every route but those of `PUBLIC_ENDPOINTS`."""
    expected = f"Bearer {token}".encode()

    @app.before_request
    def check_token() -> None:
        endpoint = request.endpoint or ""
        if request.method == "OPTIONS" or endpoint in PUBLIC_ENDPOINTS or endpoint.startswith("swagger_ui"):
            return
        given = request.headers.get("Authorization", "").encode("latin-1")  # the bytes as they were sent
        if not hmac.compare_digest(given, expected):  # constant time, so that timing reveals nothing of the token
            raise Unauthorized("This server requires a token. Send it in the header Authorization: Bearer <token>.")
