"""The OpenAPI document, compared with real answers and errors."""

from __future__ import annotations

import pytest
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, settings, strategies
from jsonschema import Draft202012Validator
from schemathesis.specs.openapi.checks import positive_data_acceptance
from werkzeug.test import TestResponse

from dexpression.labels import SEVEN
from dexpression.web import create_app
from dexpression.web.openapi import IMAGE_TYPES, openapi_document
from dexpression.web.parameters import Parameters, RootParameters
from dexpression.web.service import Service
from tests.support.web import FACE, LIMITS, MULTIPART, StubPredictor, multipart


def app(predictor: StubPredictor) -> Flask:
    return create_app(Service(predictor), LIMITS)


interface = schemathesis.openapi.from_wsgi("/openapi.json", app(StubPredictor()))


for kind in IMAGE_TYPES:
    schemathesis.openapi.media_type(kind, strategies.binary() | strategies.just(FACE))


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
    for path, model in (("/", RootParameters), ("/v1/predict", Parameters)):
        listed = openapi_document(SEVEN)["paths"][path]["post"]["parameters"]
        assert [parameter["name"] for parameter in listed] == list(model.model_fields)
        assert all(parameter["description"] for parameter in listed)


def test_form_and_json_describe_the_same_parameters_beside_the_picture():
    for path, model in (("/", RootParameters), ("/v1/predict", Parameters)):
        content = openapi_document(SEVEN)["paths"][path]["post"]["requestBody"]["content"]
        for kind, picture in (("multipart/form-data", "file"), ("application/json", "image")):
            schema = content[kind]["schema"]
            assert list(schema["properties"]) == [picture, *model.model_fields]
            assert (schema["required"], schema["additionalProperties"]) == ([picture], False)
            assert all(schema["properties"][name]["description"] for name in model.model_fields)


def test_the_document_names_openapi_3_1():
    document = app(StubPredictor()).test_client().get("/openapi.json").get_json()
    assert document["openapi"].startswith("3.1")
