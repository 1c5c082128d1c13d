"""The HTTP routes with a model that has labels of its own, and after such a model replaced another one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator

from dexpression.labels import SEVEN
from dexpression.prediction import Predictor
from dexpression.web import create_app
from dexpression.web.answers import ModelAnswer
from dexpression.web.service import Service
from tests.support.exports import change_manifest, export_random_learner
from tests.support.faces import OWN_LABELS, draw_face, encode
from tests.support.web import FACE, LIMITS, StubPredictor, assert_refused

ENUM = [*OWN_LABELS, "UNKNOWN"]


@pytest.fixture(scope="module")
def predictor(own_model: Path) -> Predictor:
    return Predictor.load(own_model.parent)


def send(client: FlaskClient, address: str, content: bytes = FACE):
    return client.post(address, data=content, content_type="image/png")


def test_the_root_answers_one_of_the_labels_of_the_model(client, predictor):
    answers = {label: send(client, "/", encode(draw_face(label, 0))).data for label in SEVEN}
    for label, answer in answers.items():
        emotion = predictor.predict(draw_face(label, 0)).emotion
        assert answer == b'{"result": "%s"}' % emotion.encode()
    assert len(set(answers.values())) == 2


def test_every_form_of_answer_has_the_labels_of_the_model(client):
    for address in ("/?detail=full", "/v1/predict"):
        body = send(client, address).get_json()
        assert tuple(body["probabilities"]) == tuple(body["faces"][0]["probabilities"]) == OWN_LABELS
        assert body["result"] in OWN_LABELS
    assert send(client, "/?min_confidence=1").get_json() == {"result": "UNKNOWN"}


@pytest.mark.parametrize("name", ["five", "seven"])
@pytest.mark.parametrize("path", ["/", "/v1/predict"])
def test_label_sets_that_the_model_lacks_are_refused_with_its_own_labels(client, path, name):
    response = send(client, f"{path}?labels={name}")
    assert_refused(response, 400, "bad_parameter")
    expected = f"labels is '{name}'. This model knows only BORED, VERY ATTENTIVE. Leave it out."
    assert expected in response.get_json(force=True)["detail"]


def test_a_vocabulary_that_has_the_five_labels_and_others_answers_all_of_them_unless_the_request_chooses(tmp_path):
    labels = ("ANGRY", "DISGUST", "FEAR", "HAPPY", "NEUTRAL", "BORED")
    client = create_app(Service(Predictor.load(export_random_learner(tmp_path, 1, labels=labels).parent)), LIMITS)
    sent = [
        send(client.test_client(), address).get_json() for address in ("/?detail=full", "/?detail=full&labels=five")
    ]
    assert [tuple(body["probabilities"]) for body in sent] == [labels, labels[:5]]


def test_the_model_is_described_with_its_labels_and_its_scores_under_own(own_model, tmp_path):
    score = {"n": 9, "accuracy": 0.7, "balanced_accuracy": 0.6, "ece": 0.1, "recall": dict.fromkeys(OWN_LABELS, 0.6)}
    model = Path(shutil.copytree(own_model.parent, tmp_path / "model"))
    change_manifest(model, results={"split": "valid", "labels": {"own": score}})
    client = create_app(Service(Predictor.load(model)), LIMITS).test_client()
    facts = ModelAnswer.model_validate(client.get("/v1/model").get_json(), strict=True)
    assert (tuple(facts.labels), facts.results["labels"]["own"].n) == (OWN_LABELS, 9)


def test_the_document_has_the_labels_of_the_model_and_no_parameter_that_is_always_refused(client):
    document = client.get("/openapi.json").get_json()
    schemas = document["components"]["schemas"]
    assert schemas["LabelAnswer"]["properties"]["result"]["enum"] == ENUM
    assert schemas["FaceAnswer"]["properties"]["result"]["enum"] == ENUM
    assert schemas["ReadingAnswer"]["properties"]["result"]["enum"] == [*ENUM, None]
    for path in ("/", "/v1/predict"):
        post = document["paths"][path]["post"]
        bodies = [
            post["requestBody"]["content"][kind]["schema"] for kind in ("multipart/form-data", "application/json")
        ]
        assert "labels" not in [parameter["name"] for parameter in post["parameters"]]
        assert all("labels" not in body["properties"] for body in bodies)
        schema = post["responses"]["200"]["content"]["application/json"]["schema"] | {
            "components": {"schemas": schemas}
        }
        Draft202012Validator(schema).validate(send(client, path).get_json())


def test_a_new_model_changes_the_labels_of_answers_document_and_metrics(predictor):
    service = Service(StubPredictor())
    client = create_app(service, LIMITS).test_client()
    etags = {client.get("/openapi.json").headers["ETag"]}
    assert send(client, "/").get_json() == {"result": "HAPPY"}
    service.predictor = predictor
    emotion = send(client, "/").get_json()["result"]
    etags.add(client.get("/openapi.json").headers["ETag"])
    assert emotion in OWN_LABELS
    assert len(etags) == 2  # a browser that has the old document gets the new one
    assert f'dexpression_answers_total{{label="{emotion}",reading="labels"}}' in client.get("/metrics").text
    service.predictor = StubPredictor()
    assert json.dumps([*SEVEN, "UNKNOWN"]) in client.get("/openapi.json").text
