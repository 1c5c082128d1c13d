"""Cross-origin resource sharing: which web pages of other servers may read which answers."""

from __future__ import annotations

import re
from collections.abc import Mapping

from flask import Flask, Response, request
from flask_cors.core import DEFAULT_OPTIONS, get_cors_headers, serialize_options
from werkzeug.datastructures import Headers

from dexpression.settings import ANY, Settings
from dexpression.web.problems import FACES, HINT, MODEL, REQUEST_ID, TENSORS_START, is_protocol_path

MODULES = ("/client.js", "/static/tracks.js")  # the JavaScript for other pages: the second is a part of the first


class Cors:
    """The CORS headers of every answer, whether the app gives it or the HTTP server below it.

    Open to other origins are `POST /`, `/v1/*`, `/v2` and all below it, and MODULES. Nothing else is: a page that could
    read `/metrics` would learn which emotions were found.
    """

    def __init__(self, settings: Settings) -> None:
        origins = settings.cors_origins.split()
        self._allows_any = origins == [ANY]
        exact = [re.compile(re.escape(origin) + r"\Z", re.IGNORECASE) for origin in origins]
        self._options = serialize_options(
            DEFAULT_OPTIONS
            | {
                "origins": ANY if self._allows_any else exact,
                "methods": ["GET", "POST", "OPTIONS"],
                "expose_headers": [REQUEST_ID, MODEL, FACES, HINT, TENSORS_START, "Retry-After"],
                "allow_private_network": True,  # a public web page may call a server on this machine
                "send_wildcard": True,
                "always_send": self._allows_any,  # also without Origin, because a browser may keep the answer for later
            }
        )
        self._without_origin = self._compute(Headers(), "POST")

    def headers_for(self, path: str, method: str, given: Headers) -> Mapping[str, str]:
        """The headers to add to the answer to a request with the headers `given`."""
        if not _is_open(path, method):
            return {}
        return self._compute(given, method) if "Origin" in given else self._without_origin

    def headers_for_origin(self, path: str, method: str, origin: str) -> Mapping[str, str]:
        """The same for a request of which only these are known; `origin` is empty if it has none."""
        return self.headers_for(path, method, Headers({"Origin": origin} if origin else {}))

    def _compute(self, given: Headers, method: str) -> Mapping[str, str]:
        headers = {name: str(value) for name, value in get_cors_headers(self._options, given, method).items()}
        return headers if self._allows_any else headers | {"Vary": "Origin"}


def add_cors(app: Flask, cors: Cors) -> None:
    """Add the CORS headers to every response of the app."""

    @app.after_request
    def add_headers(response: Response) -> Response:
        for name, value in cors.headers_for(request.path, request.method, request.headers).items():
            if name == "Vary":
                response.vary.add(value)
            else:
                response.headers[name] = value
        return response


def _is_open(path: str, method: str) -> bool:
    if path in MODULES or path.startswith("/v1/") or is_protocol_path(path):
        return True
    return path == "/" and method in ("POST", "OPTIONS")
