"""Access with and without the token, and the web pages that may call."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from dexpression.settings import Settings
from dexpression.web import create_app
from dexpression.web.service import Service
from tests.support.web import FACE, MULTIPART, StubPredictor, assert_refused, multipart


@pytest.fixture
def client() -> FlaskClient:
    return create_app(
        Service(StubPredictor()), Settings(token="sesame-9", cors_origins="https://a.example")
    ).test_client()


@pytest.mark.parametrize("given", [None, "Bearer", "Bearer ", "Bearer other", "sesame-9", "Basic sesame-9"])
@pytest.mark.parametrize("path", ["/", "/v1/predict"])
def test_a_picture_without_the_right_token_is_refused(client, path, given):
    headers = {"Authorization": given} if given else {}
    response = client.post(path, data=multipart(FACE), content_type=MULTIPART, headers=headers)
    assert_refused(response, 401, "unauthorized")
    assert response.headers["WWW-Authenticate"] == "Bearer"


def test_a_request_with_the_token_is_answered(client):
    headers = {"Authorization": "Bearer sesame-9"}
    assert client.post("/", data=multipart(FACE), content_type=MULTIPART, headers=headers).status_code == 200
    assert client.get("/v1/model", headers=headers).status_code == 200


def test_only_the_page_the_documentation_and_the_health_checks_need_no_token(client):
    for path in ("/", "/client.js", "/openapi.json", "/docs/", "/health/live", "/health/ready"):
        with client.get(path) as response:  # closes the file that is sent
            assert response.status_code == 200
    for path in ("/v1/model", "/metrics", "/nothing"):
        assert client.get(path).status_code == 401


def test_only_pages_of_the_allowed_origins_may_call(client):
    for origin, allowed in (("https://a.example", "https://a.example"), ("https://b.example", None)):
        response = client.get("/health/live", headers={"Origin": origin})
        assert response.headers.get("Access-Control-Allow-Origin") == allowed
