"""The Flask application: routes that turn pictures into readings, health checks and metrics. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from flask import Flask, Response, g, request
from prometheus_client import CONTENT_TYPE_LATEST

from dexpression.labels import OWN, label_sets
from dexpression.picture import Picture
from dexpression.reading import Reading
from dexpression.settings import Settings
from dexpression.web.access import check_hosts, refuse_other_pages, require_token
from dexpression.web.cors import Cors, add_cors
from dexpression.web.documents import add_documents
from dexpression.web.error_handlers import problem_of, register_error_handlers
from dexpression.web.inference_protocol import add_inference_protocol
from dexpression.web.metrics import metrics_text
from dexpression.web.parameters import Parameters, RootParameters
from dexpression.web.predictions import (
    AnyParameters,
    PictureLoader,
    choose_labels,
    predict_largest_face,
    read_request_parameters,
)
from dexpression.web.problems import FACES, HINT, MODEL
from dexpression.web.protection import add_security_headers
from dexpression.web.records import record_requests
from dexpression.web.service import Service
from dexpression.web.uploads import read_uploads

NO_FACE_HINT = (
    "No face was found, so this is the emotion of the whole picture. "
    "Send a face that is seen from the front, upright and not too small, or on_no_face=error to get an error instead."
)


class QuietFlask(Flask):
    """Flask without coroutines, and without a log line for failures, which the error handlers log without the path.

    Looking for coroutines in a dozen hooks took 3 % of the time of the app.
    """

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, which is never a coroutine here."""
        return func

    def log_exception(self, *_: Any) -> None:
        """Log nothing."""


def create_app(service: Service, settings: Settings) -> Flask:
    """Create the WSGI application; web pages of `settings.cors_origins` may call it."""
    app = QuietFlask("dexpression.web", static_folder=None)  # `add_documents` serves files from memory
    app.config["MAX_CONTENT_LENGTH"] = app.config["MAX_FORM_MEMORY_SIZE"] = settings.max_upload_bytes
    register_error_handlers(app)
    record_requests(app)
    add_cors(app, Cors(settings))
    add_security_headers(app)
    check_hosts(app, settings)
    if settings.token:
        require_token(app, settings.token)
    add_documents(app, bool(settings.token))

    @app.before_request
    def choose_predictor() -> None:
        if request.endpoint in ("live", "protocol_live"):  # also where a model is loaded late, or cannot be loaded
            return
        g.predictor = service.predictor
        g.facts = g.predictor.public_facts()

    @app.after_request
    def name_model(response: Response) -> Response:
        if "facts" in g:
            response.headers[MODEL] = g.facts["sha256"]
        return response

    @app.post("/")
    def answer() -> Response:
        uploads = read_uploads(request)
        parameters = read_request_parameters(RootParameters, uploads.options, settings)
        if parameters.labels is None:
            parameters = parameters.model_copy(update={"labels": settings.labels or _default_labels()})
        response = _answer_pictures(uploads.pictures, _label_picture, parameters, settings.max_pixels)
        if len(uploads.pictures) == 1:
            response.headers.update(_describe_faces(g.face_count))
        return response

    @app.post("/v1/predict")
    def predict() -> Response:
        uploads = read_uploads(request)
        parameters = read_request_parameters(Parameters, uploads.options, settings)
        return _answer_pictures(uploads.pictures, _read_picture, parameters, settings.max_pixels)

    @app.get("/v1/model")
    def show_model() -> Response:
        return _json(g.facts)

    @app.get("/metrics")
    def metrics() -> Response:
        refuse_other_pages()
        return Response(metrics_text(), content_type=CONTENT_TYPE_LATEST)

    @app.get("/health/live")
    def live() -> Response:
        return _json({"status": "live"})

    @app.get("/health/ready")
    def ready() -> Response:
        service.require_ready()
        return _json({"status": "ready"})

    add_inference_protocol(app, service, settings)
    return app


def _default_labels() -> str | None:
    """The label set of POST / if neither the request nor the settings choose one; None for all labels of the model."""
    return None if OWN in label_sets(g.facts["labels"]) else "five"


def _answer_pictures(
    pictures: Sequence[bytes],
    answer: Callable[[Picture, AnyParameters], dict[str, Any]],
    parameters: AnyParameters,
    max_pixels: int,
) -> Response:
    """Answer the request's one picture, or each of several with an answer or a problem document."""
    loader = PictureLoader(parameters.detect, max_pixels)
    if len(pictures) == 1:
        return _json(answer(loader.load(pictures[0]), parameters))
    results = []
    for content in pictures:
        try:
            results.append(answer(loader.load(content), parameters))
        except Exception as error:
            results.append(problem_of(error))
    return _json({"results": results})


def _label_picture(picture: Picture, parameters: RootParameters) -> dict[str, Any]:
    """The answer of POST /: the label of the largest face, or of the whole picture if there is no face."""
    reading = predict_largest_face(picture, parameters)
    g.face_count = len(reading.faces)
    if parameters.detail == "full":
        return _describe_reading(reading, parameters)
    # Shell scripts compare these bytes, so nothing is added to the one label.
    return {"result": reading.result(parameters.min_confidence)}


def _describe_faces(count: int) -> dict[str, str]:
    """The headers of POST / that say how many faces the picture has; the body of one label has no place for it."""
    return {FACES: str(count)} if count else {FACES: "0", HINT: NO_FACE_HINT}


def _read_picture(picture: Picture, parameters: Parameters) -> dict[str, Any]:
    """The answer of POST /v1/predict: every face."""
    reading = g.predictor.predict(picture, parameters.detect, reading=parameters.reading)
    reading = choose_labels(reading, parameters)
    return _describe_reading(reading, parameters)


def _describe_reading(reading: Reading, parameters: Parameters) -> dict[str, Any]:
    model = {"name": g.facts["name"], "sha256": g.facts["sha256"]}
    return reading.to_dict(parameters.min_confidence) | {"model": model, "request_id": g.request_id}


def _json(body: dict[str, Any]) -> Response:
    # json.dumps writes a space after each colon and no line break: the bytes of POST /.
    return Response(json.dumps(body), content_type="application/json")
