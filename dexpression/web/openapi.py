"""The OpenAPI 3.1 document, made of the models that check the requests and of those that answers are held against."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from dexpression.errors import (
    BadBase64,
    BadParameter,
    EmptyFile,
    MissingFile,
    NoFace,
    NotReady,
    Overloaded,
    RequestError,
    TooManyPictures,
    TooManyPixels,
    Unauthorized,
    UnreadableImage,
    UnsupportedMediaType,
)
from dexpression.picture import FORMATS
from dexpression.web.answers import (
    HealthAnswer,
    LabelAnswer,
    LabelAnswers,
    ModelAnswer,
    ProblemAnswer,
    ReadingAnswer,
    ReadingAnswers,
)
from dexpression.web.parameters import JsonPicture, Parameters, RootParameters
from dexpression.web.problems import CONTENT_TYPE

PICTURE_ERRORS = (
    MissingFile, EmptyFile, BadBase64, BadParameter, RequestError, TooManyPictures, UnsupportedMediaType,
    UnreadableImage, TooManyPixels, NoFace, Unauthorized, Overloaded,
)  # fmt: skip
JSON = "application/json"
TEXT = {"type": "string"}
BINARY = TEXT | {"format": "binary"}
MODELS: list[type[BaseModel]] = [
    JsonPicture,
    LabelAnswer,
    LabelAnswers,
    ReadingAnswer,
    ReadingAnswers,
    ModelAnswer,
    HealthAnswer,
    ProblemAnswer,
]
IMAGE_TYPES = [f"image/{name.lower()}" for name in FORMATS]


def openapi_document() -> dict[str, Any]:
    """Of every address that takes or tells something, and of the page."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "DeXpression",
            "version": "1",
            "description": "Send a picture; get back every face on it and the emotion on each.",
            "license": {"name": "MIT"},
        },
        "paths": {
            "/": {
                "get": _get("The page: drop a picture, or switch the camera on", "text/html", TEXT),
                "post": _post(
                    "The emotion of the largest face",
                    "As every shell script wants it: one label. Where no face is found, that of the whole picture.",
                    RootParameters,
                    ["LabelAnswer", "ReadingAnswer", "LabelAnswers"],
                ),
            },
            "/v1/predict": {
                "post": _post(
                    "Every face, and the emotion on each",
                    'No face is an answer too: "faces": [] and "result": null.',
                    Parameters,
                    ["ReadingAnswer", "ReadingAnswers"],
                )
            },
            "/v1/model": {
                "get": _get("What answers: its labels, data and results", JSON, _reference("ModelAnswer"), Unauthorized)
            },
            "/health/live": {"get": _get("Whether the process answers", JSON, _reference("HealthAnswer"))},
            "/health/ready": {
                "get": _get("Whether a real prediction works", JSON, _reference("HealthAnswer"), NotReady)
            },
            "/metrics": {"get": _get("What all workers have done, for Prometheus", "text/plain", TEXT, Unauthorized)},
        },
        "components": {"schemas": _schemas(), "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"token": []}],  # a server that was given a token asks for it, others do not
    }


def _post(summary: str, description: str, parameters: type[Parameters], answered: list[str]) -> dict[str, Any]:
    schemas = [_reference(name) for name in answered]
    return {
        "tags": ["Pictures"],
        "summary": summary,
        "description": f'{description} For several parts "file": {{"results": [...]}}, in their order.',
        "parameters": _query(parameters),
        "requestBody": {"required": True, "content": _picture_content()},
        "responses": {"200": _response("The answer", JSON, {"anyOf": schemas})} | _problems(*PICTURE_ERRORS),
    }


def _get(summary: str, content_type: str, schema: dict[str, str], *errors: type[RequestError]) -> dict[str, Any]:
    responses = {"200": _response("The answer", content_type, schema)} | _problems(*errors)
    return {"tags": ["Server"], "summary": summary, "responses": responses}


def _query(model: type[Parameters]) -> list[dict[str, Any]]:
    parameters = []
    for name, schema in model.model_json_schema()["properties"].items():
        description = schema.pop("description")
        parameters.append({"name": name, "in": "query", "description": description, "schema": schema})
    return parameters


def _picture_content() -> dict[str, Any]:
    parts = {"type": "array", "items": BINARY, "minItems": 1}
    form = {"type": "object", "properties": {"file": parts}, "required": ["file"]}
    return (
        {"multipart/form-data": {"schema": form}}
        | {kind: {"schema": BINARY} for kind in IMAGE_TYPES}
        | {JSON: {"schema": _reference("JsonPicture")}}
    )


def _problems(*errors: type[RequestError]) -> dict[str, Any]:
    """An answer a status, with the codes of its errors; the unforeseen may always happen."""
    codes: dict[int, list[str]] = {}
    for error in errors:
        codes.setdefault(error.status, []).append(error.code)
    codes[500] = ["internal_server_error"]
    problem = _reference("ProblemAnswer")
    return {str(status): _response(", ".join(names), CONTENT_TYPE, problem) for status, names in codes.items()}


def _response(description: str, content_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {content_type: {"schema": schema}}}


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _schemas() -> dict[str, Any]:
    _, definitions = models_json_schema(
        [(model, "serialization") for model in MODELS], ref_template="#/components/schemas/{model}"
    )
    schemas: dict[str, Any] = definitions["$defs"]
    return schemas
