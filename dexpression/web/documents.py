"""What tells people how: the page, the module that other pages import, the OpenAPI document and its readable form."""

from __future__ import annotations

import json
import mimetypes

from flask import Flask, Response
from flask_swagger_ui import get_swaggerui_blueprint

from dexpression.web.openapi import openapi_document

# On Windows the registry may call it plain text, which browsers refuse to run.
mimetypes.add_type("text/javascript", ".js")

DOCS, DOCUMENT = "/docs", "/openapi.json"


def add_documents(app: Flask) -> None:
    """GET /, /client.js, /openapi.json and /docs; all of it from this machine, nothing from another."""

    @app.get("/")
    def page() -> Response:
        return app.send_static_file("index.html")

    @app.get("/client.js")
    def client() -> Response:
        return app.send_static_file("client.js")

    @app.get(DOCUMENT)
    def document() -> Response:
        return Response(json.dumps(openapi_document()), content_type="application/json")

    # Without null, Swagger UI would show a badge of validator.swagger.io for a server that the world can reach.
    config = {"app_name": "DeXpression API", "validatorUrl": None}
    app.register_blueprint(get_swaggerui_blueprint(DOCS, DOCUMENT, config=config))
