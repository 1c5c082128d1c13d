"""The OpenAPI 3.1 document, made from the models of parameters and answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from dexpression.kinds import FORMATS
from dexpression.labels import UNKNOWN, label_sets
from dexpression.web.answers import (
    HealthAnswer,
    LabelAnswer,
    LabelAnswers,
    ModelAnswer,
    ProblemAnswer,
    ReadingAnswer,
    ReadingAnswers,
)
from dexpression.web.errors import STATUSES
from dexpression.web.parameters import JsonPicture, Parameters, RootParameters
from dexpression.web.problems import CONTENT_TYPE

PICTURE_CODES = [code for code in STATUSES if code not in ("internal_server_error", "not_ready")]
JSON = "application/json"
TEXT = {"type": "string"}
BINARY = TEXT | {"format": "binary"}
MODELS: list[type[BaseModel]] = [
    LabelAnswer,
    LabelAnswers,
    ReadingAnswer,
    ReadingAnswers,
    ModelAnswer,
    HealthAnswer,
    ProblemAnswer,
]
# The content of a body decides, whatever its type; these are those that are meant for it.
IMAGE_TYPES = [*(f"image/{name.lower()}" for name in FORMATS), "application/octet-stream"]


def openapi_document(labels: Sequence[str]) -> dict[str, Any]:
    """Describe every route, the page included, for a model of these labels."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "DeXpression",
            "version": "1",
            "description": "Send a picture; get back every face in it and the emotion on each.",
            "license": {"name": "MIT"},
        },
        "paths": {
            "/": {
                "get": _get("The page: drop a picture, or start the camera", "text/html", TEXT),
                "post": _post(
                    "The emotion of the largest face",
                    "One label. If no face is found, it is that of the whole picture.",
                    RootParameters,
                    ["LabelAnswer", "ReadingAnswer", "LabelAnswers"],
                    labels,
                ),
            },
            "/v1/predict": {
                "post": _post(
                    "Every face, and the emotion on each",
                    'Without a face, "faces" is [] and "result" is null.',
                    Parameters,
                    ["ReadingAnswer", "ReadingAnswers"],
                    labels,
                )
            },
            "/v1/model": {
                "get": _get("The model: its labels, data and scores", JSON, _reference("ModelAnswer"), "unauthorized")
            },
            "/health/live": {"get": _get("Whether the process answers", JSON, _reference("HealthAnswer"))},
            "/health/ready": {
                "get": _get("Whether a real prediction works", JSON, _reference("HealthAnswer"), "not_ready")
            },
            "/metrics": {"get": _get("Metrics of all workers, for Prometheus", "text/plain", TEXT, "unauthorized")},
        },
        "components": {"schemas": _schemas(labels), "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"token": []}],  # only a server with a token requires it
    }


def _post(
    summary: str, description: str, parameters: type[Parameters], answered: list[str], labels: Sequence[str]
) -> dict[str, Any]:
    schemas = [_reference(name) for name in answered]
    options = _options(parameters, labels)
    return {
        "tags": ["Pictures"],
        "summary": summary,
        "description": f'{description} For several parts "file", the answer is {{"results": [...]}}, in their order.',
        "parameters": _query(options),
        "requestBody": {"required": True, "content": _body_content(options)},
        "responses": {"200": _response("The answer", JSON, {"anyOf": schemas})} | _problems(*PICTURE_CODES),
    }


def _get(summary: str, content_type: str, schema: dict[str, str], *codes: str) -> dict[str, Any]:
    responses = {"200": _response("The answer", content_type, schema)} | _problems(*codes)
    return {"tags": ["Server"], "summary": summary, "responses": responses}


def _options(model: type[Parameters], labels: Sequence[str]) -> dict[str, Any]:
    """The schema of each parameter, without the label sets that the model lacks."""
    options: dict[str, Any] = model.model_json_schema()["properties"]
    known = [name for name in options["labels"]["enum"] if name in label_sets(labels)]
    if not known:
        return {name: schema for name, schema in options.items() if name != "labels"}
    return options | {"labels": options["labels"] | {"enum": known}}


def _query(options: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "query",
            "description": schema["description"],
            "schema": {key: value for key, value in schema.items() if key != "description"},
        }
        for name, schema in options.items()
    ]


def _body_content(options: dict[str, Any]) -> dict[str, Any]:
    parts = {"type": "array", "items": BINARY, "minItems": 1}
    image = JsonPicture.model_json_schema()["properties"]["image"]
    return (
        {"multipart/form-data": {"schema": _body("file", parts, options)}}
        | {kind: {"schema": BINARY} for kind in IMAGE_TYPES}
        | {JSON: {"schema": _body("image", image, options)}}
    )


def _body(name: str, picture: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """The schema of a body with a picture and, beside it, the parameters that may also be in the query."""
    return {
        "type": "object",
        "properties": {name: picture} | options,
        "required": [name],
        "additionalProperties": False,
    }


def _problems(*codes: str) -> dict[str, Any]:
    """One response per status, with the codes that have it; any route may also fail with 500."""
    by_status: dict[int, list[str]] = {}
    for code in (*codes, "internal_server_error"):
        by_status.setdefault(STATUSES[code], []).append(code)
    problem = _reference("ProblemAnswer")
    return {str(status): _response(", ".join(names), CONTENT_TYPE, problem) for status, names in by_status.items()}


def _response(description: str, content_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {content_type: {"schema": schema}}}


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _schemas(labels: Sequence[str]) -> dict[str, Any]:
    _, definitions = models_json_schema(
        [(model, "serialization") for model in MODELS], ref_template="#/components/schemas/{model}"
    )
    schemas: dict[str, Any] = definitions["$defs"]
    for name in ("LabelAnswer", "FaceAnswer", "ReadingAnswer"):
        nothing = [None] if name == "ReadingAnswer" else []  # without a face
        schemas[name]["properties"]["result"]["enum"] = [*labels, UNKNOWN, *nothing]
    return schemas
