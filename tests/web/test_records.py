"""The access log and the request metrics."""

from __future__ import annotations

import json
import logging

import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from dexpression.logs import JsonLines
from tests.support.web import FACE, MULTIPART, multipart


def count(client: FlaskClient, name: str, **labels: str) -> float:
    text = client.get("/metrics").text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return sum(sample.value for sample in samples if sample.name == name and labels.items() <= sample.labels.items())


def send(client: FlaskClient, *contents: bytes, path: str = "/", **headers: str) -> None:
    body = multipart(*contents, name="secret-name.png")
    client.post(f"{path}?labels=seven", data=body, content_type=MULTIPART, headers=headers)


@pytest.mark.parametrize(
    ("contents", "name", "labels"),
    [
        ([FACE], "dexpression_requests_total", {"route": "/", "method": "POST", "status": "200"}),
        ([b"not a picture"], "dexpression_requests_total", {"route": "/", "method": "POST", "status": "422"}),
        ([FACE, b"not a picture"], "dexpression_rejects_total", {"code": "undecodable_image"}),
        ([FACE], "dexpression_answers_total", {"label": "SAD", "reading": "people"}),
        ([FACE], "dexpression_picture_faces_count", {}),
        ([FACE], "dexpression_request_seconds_count", {"route": "/"}),
    ],
)
def test_a_request_is_counted_once(client, contents, name, labels):
    before = count(client, name, **labels)
    send(client, *contents)
    assert count(client, name, **labels) == before + 1


def test_a_prediction_is_counted_by_the_reading_that_the_request_chose(client):
    before = count(client, "dexpression_answers_total", label="SAD", reading="labels")
    client.post("/v1/predict?reading=labels", data=FACE, content_type="image/png")
    assert count(client, "dexpression_answers_total", label="SAD", reading="labels") == before + 1


def test_all_unknown_addresses_are_counted_under_one_route(client):
    for path in ("/a", "/b?c"):
        client.get(path)
    assert '"/a"' not in client.get("/metrics").text
    assert count(client, "dexpression_requests_total", route="none", status="404") >= 2


def test_a_log_line_has_the_request_but_no_file_name_query_or_result(client, caplog):
    caplog.set_level(logging.INFO, "dexpression.access")
    send(client, FACE, path="/v1/predict", **{"X-Request-ID": "mine-1"})
    [record] = [record for record in caplog.records if record.name == "dexpression.access"]
    assert record.getMessage().startswith("POST /v1/predict 200 ")
    assert record.getMessage().endswith(" ms mine-1")
    assert not any(word in caplog.text for word in ("secret-name", "labels", "SAD"))


def test_health_checks_metrics_and_files_are_logged_for_debugging_only(client, caplog):
    caplog.set_level(logging.DEBUG, "dexpression.access")
    for path in ("/health/live", "/health/ready", "/metrics", "/static/page.js", "/docs/swagger-ui.css", "/client.js"):
        client.get(path)
    for path in ("/v2/health/live", "/v2/models/dexpression/ready", "/v2/models/dexpression/versions/0a/ready"):
        client.get(path)
    client.get("/static/nothing")  # what fails is logged
    client.get("/")
    levels = [record.levelname for record in caplog.records if record.name == "dexpression.access"]
    assert levels == ["DEBUG"] * 9 + ["INFO"] * 2


def test_a_log_line_in_json_has_the_same_facts_as_members(client, caplog):
    caplog.set_level(logging.INFO, "dexpression.access")
    send(client, b"not a picture", **{"X-Request-ID": "mine-2"})
    [record] = [record for record in caplog.records if record.name == "dexpression.access"]
    line = json.loads(JsonLines().format(record))
    assert (line["method"], line["route"], line["status"], line["request_id"]) == ("POST", "/", 422, "mine-2")
    assert line["time"].endswith("Z")
