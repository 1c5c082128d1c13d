"""The OpenAPI 3.1 document, made from the models of parameters and answers, with recorded requests and answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from dexpression.labels import SEVEN, UNKNOWN, label_sets
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
from dexpression.web.parameters import FacesParameters, JsonPicture, Parameters, RootParameters
from dexpression.web.problems import CONTENT_TYPE

PICTURE_CODES = [code for code in STATUSES if code not in ("forbidden", "internal_server_error", "not_ready")]
TAGS = [
    {"name": "Pictures", "description": "Send pictures"},
    {"name": "Server", "description": "The page, the model and the state of the server"},
]
EXAMPLES = Path(__file__).parent / "examples.json"  # recorded by `pipenv run examples`
PROTOCOL = "https://github.com/kserve/open-inference-protocol"
BYTES = "application/octet-stream"
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


def openapi_document(labels: Sequence[str], requires_token: bool = False) -> dict[str, Any]:
    """Describe every route, the page included, for a model of these labels, and a server with or without a token.

    The routes below /v2 are left out: the Open Inference Protocol has a document of its own.
    """
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "DeXpression",
            "version": "1",
            "description": "Send a picture; get back every face in it and the emotion on each.",
            "license": {"name": "MIT"},
        },
        "tags": TAGS,
        "externalDocs": {"description": "The routes below /v2", "url": PROTOCOL},
        "servers": [{"url": "."}],  # relative to this document, so that it is right below any path
        "paths": {
            "/": {
                "get": _get("show_page", "The page: drop a picture, or start the camera", "text/html", TEXT),
                "post": _post(
                    "predict_label",
                    "The emotion of the largest face",
                    "One label. If no face is found, it is that of the whole picture, and the header X-Faces is 0.",
                    RootParameters,
                    ["LabelAnswer", "ReadingAnswer", "LabelAnswers"],
                    labels,
                ),
            },
            "/v1/predict": {
                "post": _post(
                    "predict",
                    "Every face, and the emotion on each",
                    'Without a face, "faces" is [] and "result" is null.',
                    FacesParameters,
                    ["ReadingAnswer", "ReadingAnswers"],
                    labels,
                )
            },
            "/v1/model": {
                "get": _get(
                    "show_model",
                    "The model: its labels, data and scores",
                    JSON,
                    _reference("ModelAnswer"),
                    "unauthorized",
                )
            },
            "/health/live": {
                "get": _get("check_live", "Whether the process answers", JSON, _reference("HealthAnswer"))
            },
            "/health/ready": {
                "get": _get(
                    "check_ready", "Whether a real prediction works", JSON, _reference("HealthAnswer"), "not_ready"
                )
            },
            "/metrics": {
                "get": _get(
                    "show_metrics",
                    "Metrics of all workers, for Prometheus",
                    "text/plain",
                    TEXT,
                    "unauthorized",
                    "forbidden",
                )
            },
        },
        "components": {"schemas": _schemas(labels)},
    }
    _describe_access(document, requires_token)
    if list(labels) != list(SEVEN):  # those of the recorded answers
        for operation in _operations(document):
            for content in operation["responses"]["200"]["content"].values():
                content.pop("examples", None)
    return document


def _operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for path in document["paths"].values() for operation in path.values()]


def _describe_access(document: dict[str, Any], requires_token: bool) -> None:
    """Mark the operations that require the token; without one, no operation answers with 401."""
    if requires_token:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for operation in _operations(document):
        if not requires_token:
            operation["responses"].pop("401", None)
        elif "401" in operation["responses"]:
            operation["security"] = [{"token": []}]


def _post(
    operation: str,
    summary: str,
    description: str,
    parameters: type[Parameters],
    answered: list[str],
    labels: Sequence[str],
) -> dict[str, Any]:
    options = _options(parameters, labels)
    schema = {"anyOf": [_reference(name) for name in answered]}
    return {
        "tags": ["Pictures"],
        "operationId": operation,
        "summary": summary,
        "description": f'{description} For several parts "file", the answer is {{"results": [...]}}, in their order. '
        "The parameters may be form fields or members of the JSON, too; give each one once.",
        "parameters": _query(options),
        "requestBody": {"required": True, "content": _body_content(options)},
        # Not image/png, which `explain` describes: clients that are generated would have to tell text from members.
        "responses": _responses(operation, JSON, schema, *PICTURE_CODES),
    }


def _get(operation: str, summary: str, content_type: str, schema: dict[str, str], *codes: str) -> dict[str, Any]:
    responses = _responses(operation, content_type, schema, *codes)
    return {"tags": ["Server"], "operationId": operation, "summary": summary, "responses": responses}


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
    return {
        "multipart/form-data": {"schema": _body("file", parts, options)},
        BYTES: {"schema": BINARY},  # or any other type: what the bytes are decides
        JSON: {"schema": _body("image", image, options), "examples": _examples()["requests"]},
    }


def _body(name: str, picture: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """The schema of a body with a picture and, beside it, the parameters that may also be in the query.

    The parameters are no properties: forms that are made from the schema would send each of them twice.
    """
    return {
        "type": "object",
        "properties": {name: picture},
        "required": [name],
        "propertyNames": {"enum": [name, *options]},
    }


def _responses(operation: str, content_type: str, schema: dict[str, Any], *codes: str) -> dict[str, Any]:
    """The answer and its recorded examples, and the problems, by status. Any route may answer with the last two."""
    answer = _response("The answer", content_type, schema, _examples()["answers"].get(operation))
    return {"200": answer} | _problems(*codes, "misdirected_request", "internal_server_error")


def _problems(*codes: str) -> dict[str, Any]:
    """One response per status, with the codes that have it and an example of each."""
    by_status: dict[int, list[str]] = {}
    for code in dict.fromkeys(codes):
        by_status.setdefault(STATUSES[code], []).append(code)
    problem, recorded = _reference("ProblemAnswer"), _examples()["problems"]
    return {
        str(status): _response(
            ", ".join(names), CONTENT_TYPE, problem, {name: recorded[name] for name in names if name in recorded}
        )
        for status, names in by_status.items()
    }


def _response(
    description: str, content_type: str, schema: dict[str, Any], examples: dict[str, Any] | None
) -> dict[str, Any]:
    content = {"schema": schema} | ({"examples": examples} if examples else {})
    return {"description": description, "content": {content_type: content}}


@cache
def _examples() -> dict[str, Any]:
    """Recorded bodies of requests and answers."""
    examples: dict[str, Any] = json.loads(EXAMPLES.read_text())
    return examples


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
