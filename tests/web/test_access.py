"""A token, where the server has one; and the web pages that may ask."""

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
def test_without_the_token_no_picture_is_read(client, path, given):
    headers = {"Authorization": given} if given else {}
    response = client.post(path, data=multipart(FACE), content_type=MULTIPART, headers=headers)
    assert_refused(response, 401, "unauthorized")
    assert response.headers["WWW-Authenticate"] == "Bearer"


def test_with_the_token_it_is(client):
    headers = {"Authorization": "Bearer sesame-9"}
    assert client.post("/", data=multipart(FACE), content_type=MULTIPART, headers=headers).status_code == 200
    assert client.get("/v1/model", headers=headers).status_code == 200


def test_what_must_be_seen_first_is_open_and_the_rest_is_not(client):
    for path in ("/", "/client.js", "/openapi.json", "/docs/", "/health/live", "/health/ready"):
        with client.get(path) as response:  # closes the file that it sends
            assert response.status_code == 200
    for path in ("/v1/model", "/metrics", "/nothing"):
        assert client.get(path).status_code == 401


def test_only_pages_of_the_origins_may_ask(client):
    for origin, allowed in (("https://a.example", "https://a.example"), ("https://b.example", None)):
        response = client.get("/health/live", headers={"Origin": origin})
        assert response.headers.get("Access-Control-Allow-Origin") == allowed
