"""The page, the JavaScript module for other pages, the OpenAPI document and its documentation page."""

from __future__ import annotations

import json
import mimetypes

from flask import Flask, Response
from flask_swagger_ui import get_swaggerui_blueprint

from dexpression.web.openapi import openapi_document

# The registry of Windows may say text/plain, and browsers refuse to run a module of that type.
mimetypes.add_type("text/javascript", ".js")

DOCS, DOCUMENT = "/docs", "/openapi.json"


def add_documents(app: Flask) -> None:
    """Add GET /, /client.js, /openapi.json and /docs. All their files come from this server."""

    @app.get("/")
    def page() -> Response:
        return app.send_static_file("index.html")

    @app.get("/client.js")
    def client() -> Response:
        return app.send_static_file("client.js")

    @app.get(DOCUMENT)
    def document() -> Response:
        return Response(json.dumps(openapi_document()), content_type="application/json")

    # Without null, Swagger UI loads a badge from validator.swagger.io on servers with a public address.
    config = {"app_name": "DeXpression API", "validatorUrl": None}
    app.register_blueprint(get_swaggerui_blueprint(DOCS, DOCUMENT, config=config))
