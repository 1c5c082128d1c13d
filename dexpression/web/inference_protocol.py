"""The Open Inference Protocol v2 over REST, which clients of KServe, Triton and MLServer speak, below /v2.

A model with other weights is another version, so the version is the digest of the weights. The names are those of
https://github.com/kserve/open-inference-protocol; binary tensors are an extension of Triton.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from flask import Flask, Response, g, request
from PIL import Image
from werkzeug.exceptions import NotFound

from dexpression import __version__
from dexpression.picture import Picture
from dexpression.reading import Reading
from dexpression.settings import Settings
from dexpression.web.error_handlers import respond
from dexpression.web.errors import BadParameter
from dexpression.web.inference_request import InferenceRequest, read_request, split_body
from dexpression.web.parameters import MAX_ECHO, LargestFaceParameters
from dexpression.web.predictions import PictureLoader, predict_largest_face, read_request_parameters
from dexpression.web.problems import PROTOCOL_PATH, TENSORS_START, problem
from dexpression.web.service import Service
from dexpression.web.tensors import (
    BYTES,
    FP32,
    INT32,
    UINT8,
    OutputTensor,
    check_input,
    naming_picture,
    read_crops,
    read_pictures,
)
from dexpression.web.uploads import MAX_JSON_STRUCTURE, MAX_PICTURES, read_body

MODEL_PATH = f"{PROTOCOL_PATH}/models/<model>"
PICTURES, CROPS = "pictures", "crops"  # the inputs, of which a request has one
# The outputs: a row for each picture or crop, except that `columns` has the label of each column of `probabilities`.
LABELS, PROBABILITIES, COLUMNS, FACES, BOXES = "labels", "probabilities", "columns", "faces", "boxes"
OUTPUTS = {
    LABELS: (BYTES, [-1]),
    PROBABILITIES: (FP32, [-1, -1]),
    COLUMNS: (BYTES, [-1]),
    FACES: (INT32, [-1]),
    BOXES: (INT32, [-1, 4]),
}
NO_BOX = [0, 0, 0, 0]  # of a picture without a face
ONLY_FOR_PICTURES = ("detect", "on_no_face")


class UnknownModel(NotFound):
    """The server does not have the model or the version of it that an address names."""


def add_inference_protocol(app: Flask, service: Service, settings: Settings) -> None:
    """Add the routes of the protocol."""

    @app.errorhandler(UnknownModel)
    def handle_unknown_model(error: UnknownModel) -> Response:
        return respond(problem(404, "not_found", error.description or "", g.request_id))

    @app.get(PROTOCOL_PATH, strict_slashes=False)
    def protocol_server() -> Response:
        return _json({"name": g.facts["name"], "version": __version__, "extensions": ["binary_tensor_data"]})

    @app.get(f"{PROTOCOL_PATH}/health/live")
    def protocol_live() -> Response:
        return _json({"live": True})

    @app.get(f"{PROTOCOL_PATH}/health/ready")
    def protocol_ready() -> Response:
        service.require_ready()
        return _json({"live": True, "ready": True})  # the protocol's text has the first, KServe's client the second

    @_model_route(app.get, "")
    def protocol_model() -> Response:
        return _json(_describe_model())

    @_model_route(app.get, "/ready")
    def protocol_model_ready() -> Response:
        service.require_ready()
        return _json({"name": g.facts["name"], "ready": True})

    @_model_route(app.post, "/infer")
    def protocol_infer() -> Response:
        content, binary = split_body(read_body(request), request.headers.get(TENSORS_START))
        size = g.facts["input"]
        pixels = MAX_PICTURES * size["width"] * size["height"]
        asked = read_request(content, MAX_JSON_STRUCTURE + 2 * pixels)
        chosen = asked.outputs_among(list(OUTPUTS))
        parameters = read_request_parameters(LargestFaceParameters, asked.options(), settings)
        tensor = check_input(asked.inputs, (PICTURES, CROPS))
        if tensor.name == PICTURES:
            readings = _read_pictures(read_pictures(tensor, binary), parameters, settings.max_pixels)
        else:
            readings = _read_crops(read_crops(tensor, binary, size["height"], size["width"]), parameters)
        return _answer(asked, _make_outputs(readings, parameters.min_confidence), chosen)


def _model_route(method: Callable[[str], Any], end: str) -> Callable[[Callable[[], Response]], None]:
    """Add a route of the model, with and without its version; any other model or version is answered with 404."""

    def add(view: Callable[[], Response]) -> None:
        def answer(model: str, version: str | None = None) -> Response:
            _check_model(model, version)
            return view()

        answer.__name__ = view.__name__
        method(f"{MODEL_PATH}{end}")(answer)
        method(f"{MODEL_PATH}/versions/<version>{end}")(answer)

    return add


def _check_model(model: str, version: str | None) -> None:
    name, sha256 = g.facts["name"], g.facts["sha256"]
    if model != name:
        raise UnknownModel(f'There is no model "{model[:MAX_ECHO]}". This server has {name}.')
    if version not in (None, sha256):
        raise UnknownModel(
            f'There is no version "{str(version)[:MAX_ECHO]}" of {name}. This server has {sha256}. '
            "Leave the version out to use whichever it has."
        )


def _describe_model() -> dict[str, Any]:
    size = g.facts["input"]
    inputs = {PICTURES: (BYTES, [-1]), CROPS: (UINT8, [-1, 1, size["height"], size["width"]])}
    return {
        "name": g.facts["name"],
        "versions": [g.facts["sha256"]],
        "platform": "onnxruntime_onnx",
        "inputs": _describe_tensors(inputs),
        "outputs": _describe_tensors(OUTPUTS),
    }


def _describe_tensors(tensors: dict[str, tuple[str, list[int]]]) -> list[dict[str, Any]]:
    return [{"name": name, "datatype": datatype, "shape": shape} for name, (datatype, shape) in tensors.items()]


def _read_pictures(contents: Sequence[bytes], parameters: LargestFaceParameters, max_pixels: int) -> list[Reading]:
    """Predict the largest face of each picture; an error of one names it, and is the answer to all.

    Unlike the other routes, the protocol has no place for an error beside answers.
    """
    loader, readings = PictureLoader(parameters.detect, max_pixels), []
    for number, content in enumerate(contents, 1):
        with naming_picture(number, len(contents)):
            readings.append(predict_largest_face(loader.load(content), parameters))
    return readings


def _read_crops(crops: np.ndarray, parameters: LargestFaceParameters) -> list[Reading]:
    """Predict crops (N, height, width). One by one takes 1.2 times as long as all at once, and needs nothing new."""
    if useless := parameters.model_fields_set.intersection(ONLY_FOR_PICTURES):
        raise BadParameter(f"The parameter {min(useless)} is for {PICTURES}. Leave it out with {CROPS}.")
    whole = parameters.model_copy(update={"detect": "never"})
    return [predict_largest_face(Picture.of(Image.fromarray(crop)), whole) for crop in crops]


def _make_outputs(readings: Sequence[Reading], min_confidence: float) -> dict[str, OutputTensor]:
    """All outputs for the readings, each of which has a prediction."""
    predictions = [reading.prediction for reading in readings if reading.prediction]
    values: dict[str, Any] = {
        LABELS: [prediction.result(min_confidence) for prediction in predictions],
        PROBABILITIES: np.array([list(prediction.probabilities.values()) for prediction in predictions]),
        COLUMNS: list(predictions[0].probabilities),
        FACES: np.array([len(reading.faces) for reading in readings]),
        BOXES: np.array([_largest_box(reading) for reading in readings]),
    }
    return {name: OutputTensor(name, datatype, values[name]) for name, (datatype, _) in OUTPUTS.items()}


def _largest_box(reading: Reading) -> list[int]:
    """x, y, width and height in pixels of the upright picture."""
    return list(reading.faces[0].box.to_dict().values()) if reading.faces else NO_BOX


def _answer(asked: InferenceRequest, outputs: dict[str, OutputTensor], chosen: dict[str, bool]) -> Response:
    """The answer with the chosen outputs, in JSON, or in binary where that is True."""
    body: dict[str, Any] = {"model_name": g.facts["name"], "model_version": g.facts["sha256"]}
    if asked.id is not None:
        body["id"] = asked.id
    body["outputs"], binary = [], []
    for name, is_binary in chosen.items():
        if is_binary:
            binary.append(outputs[name].to_binary())
            size = {"binary_data_size": len(binary[-1])}
            body["outputs"].append(outputs[name].describe() | {"parameters": size})
        else:
            body["outputs"].append(outputs[name].to_json())
    if not binary:
        return _json(body)
    content = json.dumps(body).encode()
    response = Response(b"".join([content, *binary]), content_type="application/octet-stream")
    response.headers[TENSORS_START] = str(len(content))
    return response


def _json(body: dict[str, Any]) -> Response:
    return Response(json.dumps(body), content_type="application/json")
