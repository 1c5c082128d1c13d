"""Access with and without the token, and the web pages that may call."""

from __future__ import annotations

from urllib.parse import urljoin

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
        assert client.get(path).status_code == 200
    for path in ("/v1/model", "/metrics", "/nothing"):
        assert client.get(path).status_code == 401


def make_client(**given: str) -> FlaskClient:
    return create_app(Service(StubPredictor()), Settings(**given)).test_client()


def allowed_origin(client: FlaskClient, method: str, path: str, origin: str) -> str | None:
    response = client.open(path, method=method, headers={"Origin": origin})
    return response.headers.get("Access-Control-Allow-Origin")


OPEN = [
    ("POST", "/"),
    ("POST", "/v1/predict"),
    ("GET", "/v1/model"),
    ("GET", "/v1/nothing"),
    ("POST", "/v2/models/dexpression/infer"),
    ("GET", "/v2"),
    ("GET", "/client.js"),
    ("GET", "/static/tracks.js"),
]
CLOSED = [
    ("GET", "/"),
    ("GET", "/metrics"),
    ("GET", "/health/live"),
    ("GET", "/health/ready"),
    ("GET", "/openapi.json"),
    ("GET", "/docs/"),
    ("GET", "/static/page.js"),
    ("POST", "/nothing"),
    ("GET", "/v2x"),
]


@pytest.mark.parametrize(("method", "path"), OPEN)
def test_pages_of_the_allowed_origins_and_no_others_may_read_an_answer(method, path):
    origin = "https://a.example"
    client = make_client(cors_origins=f"{origin} http://localhost:8000")
    for other in (
        "https://a.example.evil.net",
        "https://xa.example",
        "http://a.example",
        "https://a.example:8443",
        "null",
    ):
        assert allowed_origin(client, method, path, other) is None
    assert allowed_origin(client, method, path, origin) == origin
    assert client.open(path, method=method).headers["Vary"] == "Origin"  # a cache must not mix up the answers
    assert allowed_origin(make_client(), method, path, origin) == "*"


@pytest.mark.parametrize(("method", "path"), CLOSED)
def test_no_page_of_another_origin_may_read_what_is_not_for_it(method, path):
    for client in (make_client(), make_client(cors_origins="https://a.example")):
        assert allowed_origin(client, method, path, "https://a.example") is None


def test_a_refused_request_has_the_same_cors_headers_as_an_answer():
    client = make_client(cors_origins="https://a.example", max_upload_bytes=10_000)
    origin = {"Origin": "https://a.example"}
    found = set()
    for content in (FACE, b"no picture", bytes(20_000)):
        response = client.post("/", data=multipart(content), content_type=MULTIPART, headers=origin)
        names = ("Access-Control-Allow-Origin", "Access-Control-Expose-Headers", "Vary")
        found.add((response.status_code, *(response.headers[name] for name in names)))
    assert {status for status, *_ in found} == {200, 413, 422}
    assert len({tuple(headers) for _, *headers in found}) == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Origin": "http://localhost.evil.example"},
        {"Origin": "http://localhost:8000"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
    ],
)
def test_the_metrics_are_refused_to_pages_of_other_origins(headers):
    assert_refused(make_client().get("/metrics", headers=headers), 403, "forbidden")


@pytest.mark.parametrize(
    "headers", [{}, {"Origin": "http://localhost"}, {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}]
)
def test_the_metrics_are_given_to_monitors_and_to_the_own_page(headers):
    assert make_client().get("/metrics", headers=headers).status_code == 200


LOCAL = ["localhost", "localhost:9874", "LOCALHOST", "app.localhost", "127.0.0.1:9874", "[::1]:9874", "192.168.0.7", ""]
FOREIGN = [
    "evil.example",
    "localhost.evil.example",
    "evil.example:9874",
    "127.0.0.1.evil.example",
    "a b",
    "x@localhost",
]


@pytest.mark.parametrize("host", LOCAL)
def test_a_server_answers_under_the_names_of_this_machine_and_under_addresses(host):
    assert (
        make_client().post("/", data=multipart(FACE), content_type=MULTIPART, headers={"Host": host}).status_code == 200
    )


@pytest.mark.parametrize("host", FOREIGN)
@pytest.mark.parametrize(("method", "path"), [("POST", "/"), ("GET", "/"), ("GET", "/metrics"), ("GET", "/docs")])
def test_a_server_of_this_machine_does_not_answer_under_a_foreign_name(host, method, path):
    assert_refused(make_client().open(path, method=method, headers={"Host": host}), 421, "misdirected_request")


@pytest.mark.parametrize(
    ("given", "allowed", "refused"),
    [
        ({"hosts": "app.example"}, "APP.example:443", "other.example"),
        ({"hosts": "app.example", "host": "0.0.0.0"}, "app.example", "other.example"),
        ({"host": "0.0.0.0"}, "other.example", None),
        ({"hosts": "*"}, "other.example", None),
        ({"host": "::1"}, "localhost", "other.example"),
        ({"host": "localhost"}, "localhost", "other.example"),
    ],
)
def test_the_operator_decides_under_which_names_a_server_answers(given, allowed, refused):
    client = make_client(**given)
    assert client.get("/health/live", headers={"Host": allowed}).status_code == 200
    if refused:
        assert client.get("/health/live", headers={"Host": refused}).status_code == 421


@pytest.mark.parametrize("prefix", ["", "/emotion", "/a/b"])  # which a proxy adds to the path of the server
def test_a_redirect_names_no_host_and_stays_below_the_path_of_a_proxy(prefix):
    response = make_client(hosts="*").get("/docs?a=b", headers={"Host": "evil.example"})
    target = urljoin(f"https://site.example{prefix}/docs?a=b", response.headers["Location"])
    assert (response.status_code, target) == (308, f"https://site.example{prefix}/docs/?a=b")


def test_the_documentation_names_no_host():
    assert b"evil.example" not in make_client(hosts="*").get("/docs/", headers={"Host": "evil.example"}).data
