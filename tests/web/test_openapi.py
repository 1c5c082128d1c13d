"""The OpenAPI document, compared with real answers and errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, settings, strategies
from jsonschema import Draft202012Validator
from schemathesis.specs.openapi.checks import positive_data_acceptance
from werkzeug.test import TestResponse

from dexpression.labels import SEVEN
from dexpression.settings import Settings
from dexpression.web import create_app
from dexpression.web.errors import STATUSES
from dexpression.web.openapi import BYTES, openapi_document
from dexpression.web.parameters import FacesParameters, RootParameters
from dexpression.web.service import Service
from tests.support.web import FACE, LIMITS, MULTIPART, StubPredictor, multipart


def app(predictor: StubPredictor) -> Flask:
    return create_app(Service(predictor), LIMITS)


interface = schemathesis.openapi.from_wsgi("/openapi.json", app(StubPredictor()))
schemathesis.openapi.media_type(BYTES, strategies.binary() | strategies.just(FACE))
interface.config.update(base_url="http://localhost")  # it does not follow the relative address in the document


# schemathesis does not close the file of the page.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@interface.parametrize()
@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_generated_requests_are_answered_as_the_document_says(case):
    case.call_and_validate(excluded_checks=[positive_data_acceptance])  # a schema cannot describe a decodable picture


def assert_documented(response: TestResponse, path: str) -> None:
    """Check that the document lists the status and content type (else KeyError), and that the body fits the schema."""
    document = openapi_document(SEVEN)
    listed = document["paths"][path]["post"]["responses"][str(response.status_code)]["content"][response.content_type]
    schema = listed["schema"] | {"components": document["components"]}
    Draft202012Validator(schema).validate(response.get_json(force=True))


@pytest.mark.parametrize("parts", [[FACE], [b""], [b"not a picture"], [bytes(1_000_001)], [FACE, b"not a picture"]])
@pytest.mark.parametrize("has_face", [True, False])
@pytest.mark.parametrize("address", ["/", "/?detail=full", "/?on_no_face=error", "/?labels=nine", "/v1/predict"])
def test_real_uploads_are_answered_as_the_document_says(address, has_face, parts):
    predictor = StubPredictor()
    predictor.has_face = has_face
    response = app(predictor).test_client().post(address, data=multipart(*parts), content_type=MULTIPART)
    assert_documented(response, address.partition("?")[0])


@pytest.mark.parametrize(
    ("content", "kind"),
    [(b"x", "text/plain"), (b"{", "application/json"), (b'{"image": "%"}', "application/json"), (b"", "image/png")],
)
@pytest.mark.parametrize("address", ["/", "/v1/predict"])
def test_other_bodies_are_answered_as_the_document_says(address, content, kind):
    response = app(StubPredictor()).test_client().post(address, data=content, content_type=kind)
    assert_documented(response, address)


def test_the_document_lists_the_same_parameters_that_requests_are_checked_for():
    for path, model in (("/", RootParameters), ("/v1/predict", FacesParameters)):
        listed = openapi_document(SEVEN)["paths"][path]["post"]["parameters"]
        assert [parameter["name"] for parameter in listed] == list(model.model_fields)
        assert all(parameter["description"] for parameter in listed)


def test_form_and_json_allow_the_same_parameters_beside_the_picture():
    for path, model in (("/", RootParameters), ("/v1/predict", FacesParameters)):
        content = openapi_document(SEVEN)["paths"][path]["post"]["requestBody"]["content"]
        for kind, picture in (("multipart/form-data", "file"), ("application/json", "image")):
            schema = content[kind]["schema"]
            assert schema["propertyNames"] == {"enum": [picture, *model.model_fields]}
            assert list(schema["properties"]) == schema["required"] == [picture]  # tools send what is listed here


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The operations of a document by their ids."""
    return {operation["operationId"]: operation for path in document["paths"].values() for operation in path.values()}


def test_every_operation_has_its_own_id_and_pictures_come_first():
    document = openapi_document(SEVEN)
    assert len(operations(document)) == sum(len(path) for path in document["paths"].values())
    assert [tag["name"] for tag in document["tags"]] == ["Pictures", "Server"]
    assert {tag for operation in operations(document).values() for tag in operation["tags"]} == {"Pictures", "Server"}


def test_only_a_server_with_a_token_describes_it_and_only_where_it_is_required():
    assert "security" not in str(openapi_document(SEVEN))
    assert not any("401" in operation["responses"] for operation in operations(openapi_document(SEVEN)).values())
    document = create_app(Service(StubPredictor()), Settings(token="sesame-9")).test_client().get("/openapi.json").json
    locked = {name for name, operation in operations(document).items() if operation.get("security") == [{"token": []}]}
    assert locked == {"predict_label", "predict", "show_model", "show_metrics"}
    assert document["components"]["securitySchemes"] == {"token": {"type": "http", "scheme": "bearer"}}
    assert "security" not in document


def examples(document: dict[str, Any]) -> Iterator[tuple[dict[str, Any], Any]]:
    """Each example of a document, with its schema."""
    for operation in operations(document).values():
        for part in (operation.get("requestBody", {}), *operation["responses"].values()):
            for content in part.get("content", {}).values():
                for example in content.get("examples", {}).values():
                    yield content["schema"] | {"components": document["components"]}, example["value"]


def test_every_example_fits_its_schema():
    found = list(examples(openapi_document(SEVEN, requires_token=True)))
    assert len(found) > 40
    for schema, value in found:
        Draft202012Validator(schema).validate(value)


def test_every_json_answer_and_every_error_code_has_an_example():
    document = openapi_document(SEVEN, requires_token=True)
    for operation in operations(document).values():
        for response in operation["responses"].values():
            for kind, content in response["content"].items():
                assert content.get("examples") or kind.startswith("text/")
    assert {value["code"] for _, value in examples(document) if "code" in value} == set(STATUSES)


def test_the_document_names_openapi_3_1():
    document = app(StubPredictor()).test_client().get("/openapi.json").get_json()
    assert document["openapi"].startswith("3.1")
