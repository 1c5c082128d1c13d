"""The Flask application: routes that turn pictures into readings, health checks and metrics. Imports no torch."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from typing import Any

from flask import Flask, Response, g, request
from prometheus_client import CONTENT_TYPE_LATEST

from dexpression.annotation import annotate
from dexpression.labels import OWN, label_sets
from dexpression.picture import Picture
from dexpression.reading import Reading
from dexpression.settings import Settings
from dexpression.web.access import check_hosts, refuse_other_pages, require_token
from dexpression.web.cors import Cors, add_cors
from dexpression.web.documents import add_documents
from dexpression.web.error_handlers import problem_of, register_error_handlers
from dexpression.web.errors import BadParameter
from dexpression.web.inference_protocol import add_inference_protocol
from dexpression.web.metrics import metrics_text
from dexpression.web.parameters import AnyParameters, FacesParameters, RootParameters
from dexpression.web.predictions import (
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
JSON, PNG = "application/json", "image/png"
DRAWN_SIDE = 1280  # pixels of the longer side of an answer in PNG


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
        if parameters.explains and parameters.detail == "label":
            raise BadParameter("The one label has no place for an explanation. Add detail=full, or leave explain out.")
        response = _answer_pictures(uploads.pictures, _read_root, _describe_root, parameters, settings.max_pixels)
        if len(uploads.pictures) == 1:
            response.headers.update(_describe_faces(g.face_count))
        return response

    @app.post("/v1/predict")
    def predict() -> Response:
        uploads = read_uploads(request)
        parameters = read_request_parameters(FacesParameters, uploads.options, settings)
        return _answer_pictures(uploads.pictures, _read_picture, _describe_reading, parameters, settings.max_pixels)

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
    read: Callable[[Picture, AnyParameters], Reading],
    describe: Callable[[Reading, AnyParameters], dict[str, Any]],
    parameters: AnyParameters,
    max_pixels: int,
) -> Response:
    """Answer the request's one picture, or each of several with an answer or a problem document."""
    draws = parameters.explains and request.accept_mimetypes.best_match([JSON, PNG]) == PNG
    if draws and len(pictures) > 1:
        raise BadParameter(f"An answer in {PNG} has one picture. Send one picture, or accept {JSON}.")
    loader = PictureLoader(parameters.detect, max_pixels, takes_long=draws)
    if len(pictures) == 1:
        picture = loader.load(pictures[0])
        reading = read(picture, parameters)
        return _draw(picture, reading, parameters.min_confidence) if draws else _json(describe(reading, parameters))
    results = []
    for content in pictures:
        try:
            results.append(describe(read(loader.load(content), parameters), parameters))
        except Exception as error:
            results.append(problem_of(error))
    return _json({"results": results})


def _read_root(picture: Picture, parameters: RootParameters) -> Reading:
    """The reading for POST /: of the largest face, or of the whole picture if there is no face."""
    reading = predict_largest_face(picture, parameters)
    g.face_count = len(reading.faces)
    return reading


def _describe_root(reading: Reading, parameters: RootParameters) -> dict[str, Any]:
    """The answer of POST /: the label of the largest face, or of the whole picture if there is no face."""
    if parameters.detail == "full":
        return _describe_reading(reading, parameters)
    # Shell scripts compare these bytes, so nothing is added to the one label.
    return {"result": reading.result(parameters.min_confidence)}


def _describe_faces(count: int) -> dict[str, str]:
    """The headers of POST / that say how many faces the picture has; the body of one label has no place for it."""
    return {FACES: str(count)} if count else {FACES: "0", HINT: NO_FACE_HINT}


def _read_picture(picture: Picture, parameters: FacesParameters) -> Reading:
    """The reading for POST /v1/predict: every face."""
    reading = g.predictor.predict(picture, parameters.detect, False, parameters.reading, parameters.explains)
    return choose_labels(reading, parameters)


def _describe_reading(reading: Reading, parameters: FacesParameters) -> dict[str, Any]:
    model = {"name": g.facts["name"], "sha256": g.facts["sha256"]}
    if parameters.explain == "true":
        reading = reading.with_evidence_of_answers()
    return reading.to_dict(parameters.min_confidence) | {"model": model, "request_id": g.request_id}


def _draw(picture: Picture, reading: Reading, min_confidence: float) -> Response:
    """The picture with its reading and evidence as PNG, reduced to what a screen shows."""
    image = picture.image.copy()
    image.thumbnail((DRAWN_SIDE, DRAWN_SIDE))
    content = io.BytesIO()
    drawn = annotate(image, reading, min_confidence)
    drawn.save(content, "PNG", compress_level=1)  # fast: photos hardly shrink more
    return Response(content.getvalue(), content_type=PNG)


def _json(body: dict[str, Any]) -> Response:
    # json.dumps writes a space after each colon and no line break: the bytes of POST /.
    return Response(json.dumps(body), content_type=JSON)
