"""The recorder of the examples in the OpenAPI document: requests to a real server, and its answers."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import requests
from PIL import Image
from skimage.data import astronaut

from dexpression.settings import Settings
from dexpression.web import create_app
from dexpression.web.openapi import EXAMPLES
from dexpression.web.service import Service
from tests.support.faces import encode
from tests.support.hostile import progressive_jpeg
from tests.support.server import REQUEST_SECONDS, Server
from tests.support.web import MULTIPART, StubPredictor, multipart

TOKEN = "sesame-9"
REQUEST_ID = "4db1cb2232cb4a7ba0b00660ac5b32cd"  # the same in all examples, so that recording again changes nothing
PORTRAIT = Image.fromarray(astronaut())
PHOTO = encode(PORTRAIT, "JPEG", quality=95)
FACE = {
    "image": base64.b64encode(encode(PORTRAIT.crop((166, 69, 278, 181)).convert("L").resize((48, 48)), "JPEG")).decode()
}
BLANK = encode(Image.new("RGB", (200, 200), "white"))


def files(*contents: bytes) -> dict[str, Any]:
    """The option of `requests` that uploads these files."""
    return {"files": [("file", content) for content in contents]}


# By operation and name of the example: a summary, the address, and options of `requests`.
ANSWERS: dict[str, dict[str, tuple[str, str, dict[str, Any]]]] = {
    "predict_label": {
        "label": ("A photo", "/", files(PHOTO)),
        "full": ("A photo, with detail=full", "/?detail=full", files(PHOTO)),
        "unknown": ("A picture without a face, with min_confidence=0.9", "/?min_confidence=0.9", files(BLANK)),
        "several": ("A photo and a file that is not a picture", "/", files(PHOTO, b"not a picture")),
    },
    "predict": {
        "photo": ("A photo", "/v1/predict", files(PHOTO)),
        "face": ("The picture in the example of a JSON request", "/v1/predict", {"json": FACE}),
        "no_face": ("A picture without a face", "/v1/predict", files(BLANK)),
        "several": ("A photo and a file that is not a picture", "/v1/predict", files(PHOTO, b"not a picture")),
    },
    "show_model": {"model": ("The model that comes with the server", "/v1/model", {})},
    "check_live": {"live": ("The process answers", "/health/live", {})},
    "check_ready": {"ready": ("A prediction works", "/health/ready", {})},
}
# Address and options of requests that are refused, each with another code.
REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("/", {"data": b""}),
    ("/", files(b"")),
    ("/", files(b"not a picture")),
    ("/", files(*[b""] * 33)),
    ("/", files(encode(Image.new("1", (10_000, 10_000))))),
    ("/", files(progressive_jpeg(8, 8, 1_000))),
    ("/?on_no_face=error", files(BLANK)),
    ("/?labels=six", files(PHOTO)),
    ("/", {"data": b"{", "headers": {"Content-Type": "application/json"}}),
    ("/", {"json": {"image": "%"}}),
    ("/", {"data": {"file": "photo.jpg"}}),
    ("/v1/model", {"auth": None}),
    ("/v1/model", {"headers": {"Host": "faces.example"}}),
    ("/metrics", {"headers": {"Origin": "https://faces.example"}}),
]


def record_examples(model: Path) -> dict[str, Any]:
    """Bodies of requests, of answers by operation, and of problems by code, as OpenAPI's objects `examples`."""
    with Server(model, DEXPRESSION_TOKEN=TOKEN, DEXPRESSION_WORKERS="1") as server:
        answers = {
            operation: {
                name: example(summary, send(server, path, **options))
                for name, (summary, path, options) in named.items()
            }
            for operation, named in ANSWERS.items()
        }
        refused = [send(server, path, **options) for path, options in REFUSED]
    problems = {problem["code"]: example(problem["code"], problem) for problem in (*refused, *overload(model), *fail())}
    return {"requests": {"face": example("A face of 48x48 pixels", FACE)}, "answers": answers, "problems": problems}


def send(server: Server, path: str, **options: Any) -> Any:
    """The answer to POST with a body, otherwise GET, by default with the token of the server."""
    method = "POST" if options.keys() & {"files", "json", "data"} else "GET"
    options = {"auth": add_token, "timeout": REQUEST_SECONDS} | options
    return requests.request(method, server.url + path, **options).json()


def add_token(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Authenticate a request, as `requests` calls it."""
    request.headers["Authorization"] = f"Bearer {TOKEN}"
    return request


def overload(model: Path) -> list[Any]:
    """One problem of a server that gets more pictures than it can queue."""
    refused: list[Any] = []
    with Server(model, DEXPRESSION_WORKERS="1", DEXPRESSION_MAX_QUEUE="1") as server:
        while not refused:
            with ThreadPoolExecutor(16) as threads:
                answers = list(threads.map(lambda _: send(server, "/", **files(PHOTO)), range(16)))
            refused = [answer for answer in answers if "code" in answer]
    return refused[:1]


def fail() -> list[Any]:
    """Problems that no request causes: of an application whose predictor fails, and of one that stops."""
    broken = StubPredictor()
    broken.failure = OSError()
    failing, stopping = Service(broken), Service(StubPredictor(), stopping=True)
    failed = create_app(failing, Settings()).test_client().post("/", data=multipart(PHOTO), content_type=MULTIPART)
    stopped = create_app(stopping, Settings()).test_client().get("/health/ready")
    return [response.get_json(force=True) for response in (failed, stopped)]


def example(summary: str, value: Any) -> dict[str, Any]:
    """An example object of OpenAPI."""
    return {"summary": summary, "value": with_fixed_id(value)}


def with_fixed_id(value: Any) -> Any:
    """A copy of JSON in which each request id is REQUEST_ID."""
    if isinstance(value, dict):
        return {name: REQUEST_ID if name == "request_id" else with_fixed_id(member) for name, member in value.items()}
    return [with_fixed_id(member) for member in value] if isinstance(value, list) else value


def main() -> None:
    """Record the examples anew."""
    EXAMPLES.write_text(json.dumps(record_examples(Settings.model_path), indent=1) + "\n")


if __name__ == "__main__":
    main()
