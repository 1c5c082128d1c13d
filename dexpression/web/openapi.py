"""The OpenAPI 3.1 document, made of the models that check the requests and of those that answers are held against."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

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

PICTURE_PROBLEMS = {
    400: "bad_parameter, missing_file, empty_file, bad_base64, bad_request",
    413: "payload_too_large",
    415: "unsupported_media_type",
    422: "undecodable_image, too_many_pixels; at POST / no_face, where it was asked for",
    500: "internal_server_error",
}
JSON = "application/json"
BINARY = {"type": "string", "format": "binary"}
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
    """Of every address that answers with JSON."""
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
                "post": _post(
                    "The emotion of the largest face",
                    "As every shell script wants it: one label. Where no face is found, that of the whole picture.",
                    RootParameters,
                    ["LabelAnswer", "ReadingAnswer", "LabelAnswers"],
                )
            },
            "/v1/predict": {
                "post": _post(
                    "Every face, and the emotion on each",
                    'No face is an answer too: "faces": [] and "result": null.',
                    Parameters,
                    ["ReadingAnswer", "ReadingAnswers"],
                )
            },
            "/v1/model": {"get": _get("What answers: its labels, data and results", "ModelAnswer")},
            "/health/live": {"get": _get("Whether the process answers", "HealthAnswer")},
            "/health/ready": {"get": _get("Whether a real prediction works", "HealthAnswer", {503: "not_ready"})},
        },
        "components": {"schemas": _schemas()},
    }


def _post(summary: str, description: str, parameters: type[Parameters], answered: list[str]) -> dict[str, Any]:
    schemas = [_reference(name) for name in answered]
    return {
        "tags": ["Pictures"],
        "summary": summary,
        "description": f'{description} For several parts "file": {{"results": [...]}}, in their order.',
        "parameters": _query(parameters),
        "requestBody": {"required": True, "content": _picture_content()},
        "responses": {"200": _response("The answer", JSON, {"anyOf": schemas})} | _problems(PICTURE_PROBLEMS),
    }


def _get(summary: str, answered: str, problems: dict[int, str] | None = None) -> dict[str, Any]:
    responses = {"200": _response("The answer", JSON, _reference(answered))} | _problems(problems or {})
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


def _problems(codes: dict[int, str]) -> dict[str, Any]:
    problem = _reference("ProblemAnswer")
    return {str(status): _response(names, CONTENT_TYPE, problem) for status, names in codes.items()}


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
