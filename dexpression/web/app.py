"""Routes: a picture in, its emotion out; and whether the server is alive and ready."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import IO, Protocol

from flask import Flask, Request, Response, request
from flask_cors import CORS
from PIL import Image

from dexpression.errors import MissingFile, NotReady
from dexpression.labels import FIVE
from dexpression.picture import read_picture
from dexpression.settings import Settings
from dexpression.web.problems import register_problems


class Answer(Protocol):
    """What the routes need of a prediction."""

    @property
    def emotion(self) -> str: ...

    def among(self, labels: Sequence[str]) -> Answer: ...


class Answering(Protocol):
    """What the routes need of a predictor; tests give a stub."""

    def predict(self, pictures: Sequence[Image.Image]) -> Sequence[Answer]: ...


class MemoryRequest(Request):
    """A request whose upload stays in memory: werkzeug puts parts of more than 500 kB into a file on disk."""

    def _get_file_stream(
        self,
        total_content_length: int | None,
        content_type: str | None,
        filename: str | None = None,
        content_length: int | None = None,
    ) -> IO[bytes]:
        return io.BytesIO()


def create_app(predictor: Answering, settings: Settings) -> Flask:
    """The WSGI application; any web page may call it."""
    app = Flask("dexpression", static_folder=None)
    app.request_class = MemoryRequest
    app.config["MAX_CONTENT_LENGTH"] = app.config["MAX_FORM_MEMORY_SIZE"] = settings.max_upload_bytes
    CORS(app)
    register_problems(app)

    @app.post("/")
    def answer() -> Response:
        picture = read_picture(_uploaded_bytes(), settings.max_pixels)
        # Shell scripts compare these bytes: a space after the colon, and no line break.
        return _json({"result": _emotion(predictor, picture)})

    @app.get("/health/live")
    def live() -> Response:
        return _json({"status": "live"})

    @app.get("/health/ready")
    def ready() -> Response:
        try:
            _emotion(predictor, Image.new("L", (48, 48)))  # a real one: what fails here would fail every caller
        except Exception as error:
            raise NotReady("The server cannot predict. Its log has the reason under this request id.") from error
        return _json({"status": "ready"})

    return app


def _emotion(predictor: Answering, picture: Image.Image) -> str:
    [prediction] = predictor.predict([picture])
    return prediction.among(FIVE).emotion


def _uploaded_bytes() -> bytes:
    upload = request.files.get("file")
    if upload is None:
        raise MissingFile('The request has no part "file" with a picture. Send one: curl -F file=@face.jpg')
    return bytes(upload.read())


def _json(body: dict[str, str]) -> Response:
    return Response(json.dumps(body), content_type="application/json")
