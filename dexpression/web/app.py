"""Routes: pictures in, readings out; and whether the server is alive and ready. Knows no torch."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Protocol

from flask import Flask, Response, g, request
from flask_cors import CORS
from PIL import Image

from dexpression.errors import NoFace, NotReady
from dexpression.labels import LABEL_SETS, LabelSet
from dexpression.picture import read_picture
from dexpression.reading import Detect, Reading
from dexpression.settings import Settings
from dexpression.web.documents import add_documents
from dexpression.web.parameters import Parameters, RootParameters, read_parameters
from dexpression.web.problems import REQUEST_ID, problem_of, register_problems
from dexpression.web.uploads import MemoryRequest, read_uploads


class Predicting(Protocol):
    """What the routes need of a predictor; tests give a stub."""

    def predict(self, picture: Image.Image, detect: Detect = "auto", whole: bool = False) -> Reading: ...

    def card(self) -> dict[str, Any]: ...


def create_app(predictor: Predicting, settings: Settings) -> Flask:
    """The WSGI application; any web page may call it."""
    app = Flask("dexpression.web")
    app.request_class = MemoryRequest
    app.config["MAX_CONTENT_LENGTH"] = app.config["MAX_FORM_MEMORY_SIZE"] = settings.max_upload_bytes
    CORS(app, allow_private_network=True, expose_headers=[REQUEST_ID])  # a public page may ask this machine too
    register_problems(app)
    add_documents(app)
    card = predictor.card()
    model = {"name": card["name"], "sha256": card["sha256"]}

    def full(reading: Reading, parameters: Parameters, labels: LabelSet | None) -> dict[str, Any]:
        chosen = reading.among(LABEL_SETS[labels]) if labels else reading
        return chosen.to_dict(parameters.min_confidence) | {"model": model, "request_id": g.request_id}

    @app.post("/")
    def answer() -> Response:
        parameters = read_parameters(RootParameters, request, card["labels"])

        def read(picture: Image.Image) -> dict[str, Any]:
            reading = predictor.predict(picture, parameters.detect, whole=parameters.on_no_face == "whole")
            if reading.prediction is None:
                raise NoFace("No face was found. Send one seen from the front, upright and not too small.")
            body = full(reading, parameters, parameters.labels or "five")
            # Shell scripts compare these bytes: nothing is added to the one label unasked.
            return body if parameters.detail == "full" else {"result": body["result"]}

        return _answer_each(read, settings.max_pixels)

    @app.post("/v1/predict")
    def predict() -> Response:
        parameters = read_parameters(Parameters, request, card["labels"])

        def read(picture: Image.Image) -> dict[str, Any]:
            return full(predictor.predict(picture, parameters.detect), parameters, parameters.labels)

        return _answer_each(read, settings.max_pixels)

    @app.get("/v1/model")
    def show_model() -> Response:
        return _json(card)

    @app.get("/health/live")
    def live() -> Response:
        return _json({"status": "live"})

    @app.get("/health/ready")
    def ready() -> Response:
        try:
            # A real one, through the detector and the network: what fails here would fail every caller.
            predictor.predict(Image.new("L", (48, 48)), "always", whole=True)
        except Exception as error:
            raise NotReady("The server cannot predict. Its log has the reason under this request id.") from error
        return _json({"status": "ready"})

    return app


def _answer_each(read: Callable[[Image.Image], dict[str, Any]], max_pixels: int) -> Response:
    """One answer for one picture; for several an answer or a problem each, so that none spoils the others.

    All pictures of a request share what pixels one may have: a few bytes can hold many.
    """
    uploads = read_uploads(request)
    if len(uploads) == 1:
        return _json(read(read_picture(uploads[0], max_pixels)))
    results = []
    for content in uploads:
        try:
            picture = read_picture(content, max_pixels)
            max_pixels -= picture.width * picture.height
            results.append(read(picture))
        except Exception as error:
            results.append(problem_of(error))
    return _json({"results": results})


def _json(body: dict[str, Any]) -> Response:
    # A space after the colon, and no line break: see POST /.
    return Response(json.dumps(body), content_type="application/json")
