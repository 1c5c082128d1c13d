"""The page, the JavaScript module for other pages, the OpenAPI document and its documentation page."""

from __future__ import annotations

import hashlib
import io
import json
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import flask_swagger_ui
from flask import Flask, Response, abort, g, request
from flask_swagger_ui import get_swaggerui_blueprint
from werkzeug.wsgi import wrap_file

from dexpression.web.openapi import openapi_document

DOCS, DOCUMENT = "/docs", "/openapi.json"
STATIC = Path(__file__).parent / "static"
SWAGGER = Path(flask_swagger_ui.__file__).parent / "dist"
SWAGGER_FILES = [  # of that folder, those that its page names
    "favicon-16x16.png",
    "favicon-32x32.png",
    "index.css",
    "oauth2-redirect.html",
    "oauth2-redirect.js",
    "swagger-ui-bundle.js",
    "swagger-ui-standalone-preset.js",
    "swagger-ui.css",
]

mimetypes.add_type("text/javascript", ".js")  # the registry of Windows may say text/plain, which browsers do not run


@dataclass(frozen=True)
class Document:
    """A file in memory. All its answers share these bytes, so a client that does not read them costs no memory."""

    content: bytes
    media_type: str
    digest: str

    @classmethod
    def read(cls, path: Path) -> Document:
        """Read a file, whose suffix gives the media type."""
        return cls.of(path.read_bytes(), mimetypes.guess_type(path.name)[0] or "application/octet-stream")

    @classmethod
    def of(cls, content: bytes, media_type: str) -> Document:
        """Make a document of bytes."""
        return cls(content, media_type, hashlib.sha256(content).hexdigest()[:32])

    def respond(self) -> Response:
        """The answer to the current request: all bytes, a part (206), or none if the client has them already (304)."""
        file = wrap_file(request.environ, io.BytesIO(self.content))
        response = Response(file, mimetype=self.media_type, direct_passthrough=True)
        response.content_length = len(self.content)
        response.set_etag(self.digest)
        response.cache_control.no_cache = True  # a browser asks each time whether its copy is still right
        response.make_conditional(request, accept_ranges=True, complete_length=len(self.content))
        return response


def add_documents(app: Flask, requires_token: bool) -> None:
    """Add GET /, /client.js, /static/, /openapi.json and /docs. All their files come from this server's memory."""
    page_files = _read_folder(STATIC, [path.name for path in STATIC.iterdir()])
    swagger_files = _read_folder(SWAGGER, SWAGGER_FILES)

    @app.get("/")
    def page() -> Response:
        return page_files["index.html"].respond()

    @app.get("/client.js")
    def client() -> Response:
        return page_files["client.js"].respond()

    @app.get("/static/<name>")
    def static(name: str) -> Response:
        return _find(page_files, name).respond()

    @app.get(DOCUMENT)
    def document() -> Response:
        return _describe_interface(tuple(g.facts["labels"]), requires_token).respond()

    # Without null, Swagger UI loads a badge from validator.swagger.io on servers with a public address. It would make
    # the other address of the Host header. All addresses are relative, so that the page works below any path.
    config = {"app_name": "DeXpression API", "validatorUrl": None, "oauth2RedirectUrl": "oauth2-redirect.html"}
    swagger_page = get_swaggerui_blueprint(".", f"..{DOCUMENT}", config=config)
    app.register_blueprint(swagger_page, url_prefix=DOCS)

    @app.get(f"{DOCS}/<name>", endpoint="swagger_ui_file")
    def swagger_file(name: str) -> Response:
        return _find(swagger_files, name).respond()


@lru_cache(maxsize=2)  # a new model may have other labels
def _describe_interface(labels: tuple[str, ...], requires_token: bool) -> Document:
    return Document.of(json.dumps(openapi_document(labels, requires_token)).encode(), "application/json")


def _read_folder(folder: Path, names: list[str]) -> dict[str, Document]:
    return {name: Document.read(folder / name) for name in names}


def _find(documents: Mapping[str, Document], name: str) -> Document:
    if name not in documents:
        abort(404)
    return documents[name]
