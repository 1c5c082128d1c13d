"""Who may ask: a token, where the server has one."""

from __future__ import annotations

import hmac

from flask import Flask, request

from dexpression.errors import Unauthorized

OPEN = {"page", "client", "static", "document", "live", "ready"}  # what has to be seen before a token can be sent


def require_token(app: Flask, token: str) -> None:
    """Have every route that tells of pictures or of the model ask for `Authorization: Bearer <token>`."""
    expected = f"Bearer {token}".encode()

    @app.before_request
    def check_token() -> None:
        endpoint = request.endpoint or ""
        if request.method == "OPTIONS" or endpoint in OPEN or endpoint.startswith("swagger_ui"):
            return
        given = request.headers.get("Authorization", "").encode("latin-1")  # the bytes as they came
        if not hmac.compare_digest(given, expected):  # in constant time: how long it takes tells nothing of the token
            raise Unauthorized("This server wants a token. Send it as the header Authorization: Bearer <token>.")
