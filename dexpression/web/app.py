"""Routes: pictures in, readings out; whether the server is alive and ready, and what it has done. Knows no torch."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, cast

from flask import Flask, Response, g, request
from flask_cors import CORS
from PIL import Image
from prometheus_client import CONTENT_TYPE_LATEST

from dexpression.errors import NoFace, NotReady
from dexpression.labels import LABEL_SETS, LabelSet
from dexpression.picture import Picture, load_picture
from dexpression.reading import Reading
from dexpression.settings import Settings
from dexpression.web.access import require_token
from dexpression.web.documents import add_documents
from dexpression.web.metrics import count_reading, metrics_text
from dexpression.web.parameters import Parameters, RootParameters, read_parameters
from dexpression.web.problems import REQUEST_ID, problem_of, register_problems
from dexpression.web.protection import protect_answers
from dexpression.web.records import record_requests
from dexpression.web.service import Service
from dexpression.web.uploads import MemoryRequest, read_uploads

MODEL = "X-Model-SHA256"  # which model answered: it may change while the server runs


def create_app(service: Service, settings: Settings) -> Flask:
    """The WSGI application; any web page of `settings.origins` may call it."""
    app = Flask("dexpression.web")
    app.request_class = MemoryRequest
    app.config["MAX_CONTENT_LENGTH"] = app.config["MAX_FORM_MEMORY_SIZE"] = settings.max_upload_bytes
    # A public page may ask this machine too.
    CORS(app, origins=settings.origins.split(), allow_private_network=True, expose_headers=[REQUEST_ID, MODEL])
    register_problems(app)
    record_requests(app)
    protect_answers(app)
    if settings.token:
        require_token(app, settings.token)
    add_documents(app)

    @app.before_request
    def choose_predictor() -> None:
        g.predictor = service.predictor
        g.card = g.predictor.card()

    @app.after_request
    def name_model(response: Response) -> Response:
        if "card" in g:
            response.headers[MODEL] = g.card["sha256"]
        return response

    @app.post("/")
    def answer() -> Response:
        parameters = read_parameters(RootParameters, request, g.card["labels"])

        def read(picture: Picture) -> dict[str, Any]:
            reading = g.predictor.predict(picture, parameters.detect, whole=parameters.on_no_face == "whole")
            if reading.prediction is None:
                raise NoFace("No face was found. Send one seen from the front, upright and not too small.")
            body = _full(reading, parameters, parameters.labels or cast(LabelSet, settings.labels))
            # Shell scripts compare these bytes: nothing is added to the one label unasked.
            return body if parameters.detail == "full" else {"result": body["result"]}

        return _answer_each(read, settings.max_pixels)

    @app.post("/v1/predict")
    def predict() -> Response:
        parameters = read_parameters(Parameters, request, g.card["labels"])

        def read(picture: Picture) -> dict[str, Any]:
            return _full(g.predictor.predict(picture, parameters.detect), parameters, parameters.labels)

        return _answer_each(read, settings.max_pixels)

    @app.get("/v1/model")
    def show_model() -> Response:
        return _json(g.card)

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(metrics_text(), content_type=CONTENT_TYPE_LATEST)

    @app.get("/health/live")
    def live() -> Response:
        return _json({"status": "live"})

    @app.get("/health/ready")
    def ready() -> Response:
        if service.stopping:
            raise NotReady("The server is being stopped. Ask another, or this one when it was started again.")
        try:
            # A real one, through the detector and the network: what fails here would fail every caller.
            g.predictor.predict(Image.new("L", (48, 48)), "always", whole=True)
        except Exception as error:
            raise NotReady("The server cannot predict. Its log has the reason under this request id.") from error
        return _json({"status": "ready"})

    return app


def _full(reading: Reading, parameters: Parameters, labels: LabelSet | None) -> dict[str, Any]:
    count_reading(chosen := reading.among(LABEL_SETS[labels]) if labels else reading)
    model = {"name": g.card["name"], "sha256": g.card["sha256"]}
    return chosen.to_dict(parameters.min_confidence) | {"model": model, "request_id": g.request_id}


def _answer_each(read: Callable[[Picture], dict[str, Any]], max_pixels: int) -> Response:
    """One answer for one picture; for several an answer or a problem each, so that none spoils the others.

    All pictures of a request share what pixels one may have: a few bytes can hold many.
    """
    uploads = read_uploads(request)
    if len(uploads) == 1:
        return _json(read(load_picture(uploads[0], max_pixels)))
    results = []
    for content in uploads:
        try:
            picture = load_picture(content, max_pixels)
            max_pixels -= picture.width * picture.height
            results.append(read(picture))
        except Exception as error:
            results.append(problem_of(error))
    return _json({"results": results})


def _json(body: dict[str, Any]) -> Response:
    # A space after the colon, and no line break: see POST /.
    return Response(json.dumps(body), content_type="application/json")
