"""The Open Inference Protocol below /v2, with a stub predictor: tensors, errors, and what other routes have too."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings, strategies
from PIL import Image
from werkzeug.test import TestResponse

from dexpression.settings import Settings
from dexpression.web import create_app
from dexpression.web.service import Service
from tests.support.faces import encode
from tests.support.web import ANSWER, FACE, LABELS_ANSWER, LIMITS, PUBLIC_FACTS, StubPredictor

MODEL = "/v2/models/dexpression"
HEADER = "Inference-Header-Content-Length"
PICTURE = {"name": "pictures", "shape": [1], "datatype": "BYTES", "data": [base64.b64encode(FACE).decode()]}
CROP = {"name": "crops", "shape": [1, 1, 48, 48], "datatype": "UINT8", "data": [7] * 2304}


def infer(client: FlaskClient, *inputs: dict[str, Any], **members: Any) -> TestResponse:
    return client.post(f"{MODEL}/infer", json={"inputs": inputs} | members)


def send_binary(client: FlaskClient, tensor: dict[str, Any], binary: bytes, **members: Any) -> TestResponse:
    """Send an input whose data stands behind the JSON, with the header and the size that fit."""
    described = {name: value for name, value in tensor.items() if name != "data"}
    described["parameters"] = {"binary_data_size": len(binary)}
    content = json.dumps({"inputs": [described]} | members).encode()
    return client.post(f"{MODEL}/infer", data=content + binary, headers={HEADER: str(len(content))})


def elements(*contents: bytes) -> bytes:
    """The elements of BYTES in binary."""
    return b"".join(struct.pack("<I", len(content)) + content for content in contents)


def outputs(response: TestResponse) -> dict[str, Any]:
    """The data of each output of an answer in JSON."""
    assert response.status_code == 200, response.text
    return {output["name"]: output["data"] for output in response.get_json()["outputs"]}


def assert_refused(response: TestResponse, status: int, *words: str) -> None:
    """Check that a response has the one form of the protocol's errors, this status, and these words."""
    assert (response.status_code, response.content_type) == (status, "application/json"), response.text
    members = response.get_json()
    assert members.keys() == {"error"}
    assert len(members["error"]) < 500
    assert all(word in members["error"] for word in words), members


def test_the_server_and_the_model_describe_themselves_in_the_terms_of_the_protocol(client):
    for path in ("/v2", "/v2/"):
        server = client.get(path).get_json()
        assert server.keys() == {"name", "version", "extensions"}
    model = client.get(MODEL).get_json()
    assert (model["name"], model["versions"], model["platform"]) == ("dexpression", ["0a"], "onnxruntime_onnx")
    assert model["inputs"][1] == {"name": "crops", "datatype": "UINT8", "shape": [-1, 1, 48, 48]}
    assert [output["name"] for output in model["outputs"]] == ["labels", "probabilities", "columns", "faces", "boxes"]


def test_health_checks_answer_as_those_of_the_other_interface():
    service = Service(StubPredictor())
    client = create_app(service, LIMITS).test_client()
    assert client.get("/v2/health/live").get_json() == {"live": True}
    assert client.get("/v2/health/ready").get_json()["ready"] is True
    assert client.get(f"{MODEL}/ready").get_json() == {"name": "dexpression", "ready": True}
    service.stopping = True
    for path in ("/v2/health/ready", f"{MODEL}/ready"):
        response = client.get(path)
        assert_refused(response, 503, "stopping")
        assert response.headers["Retry-After"] == "1"
    assert client.get("/v2/health/live").status_code == 200


@pytest.mark.parametrize("end", ["", "/ready", "/infer"])
def test_a_model_answers_under_its_digest_as_version_and_no_other_model_or_version_exists(client, end):
    method = "POST" if end == "/infer" else "GET"
    body = {"inputs": [CROP]} if end == "/infer" else None
    assert client.open(f"{MODEL}/versions/0a{end}", method=method, json=body).status_code == 200
    assert_refused(client.open(f"{MODEL}/versions/1{end}", method=method, json=body), 404, 'version "1"', "0a")
    assert_refused(client.open(f"/v2/models/resnet{end}", method=method, json=body), 404, '"resnet"', "dexpression")


def test_a_picture_in_base64_is_answered_by_its_largest_face(client):
    response = infer(client, PICTURE, id="42")
    answer = response.get_json()
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("dexpression", "0a", "42")
    shapes = {output["name"]: (output["datatype"], output["shape"]) for output in answer["outputs"]}
    assert shapes == {
        "labels": ("BYTES", [1]), "probabilities": ("FP32", [1, 7]), "columns": ("BYTES", [7]),
        "faces": ("INT32", [1]), "boxes": ("INT32", [1, 4]),
    }  # fmt: skip
    assert outputs(response) == {
        "labels": ["SAD"], "probabilities": list(ANSWER.values()), "columns": list(ANSWER), "faces": [1],
        "boxes": [1, 2, 29, 38],
    }  # fmt: skip


def test_several_pictures_are_several_rows_whatever_way_they_are_sent(client, predictor):
    text = PICTURE["data"][0]
    for shape, data in (([2], [text, text]), ([2, 1], [text, text]), ([2, 1], [[text], [text]])):
        assert outputs(infer(client, PICTURE | {"shape": shape, "data": data}))["labels"] == ["SAD", "SAD"]
    for shape in ([2], [2, 1]):
        response = send_binary(client, PICTURE | {"shape": shape}, elements(FACE, FACE))
        assert outputs(response)["faces"] == [1, 1]
    assert len(predictor.seen) == 10


def test_a_picture_without_a_face_is_answered_as_a_whole_and_says_so(client, predictor):
    predictor.has_face = False
    found = outputs(infer(client, PICTURE))
    assert (found["labels"], found["faces"], found["boxes"]) == (["SAD"], [0], [0, 0, 0, 0])
    assert_refused(infer(client, PICTURE, parameters={"on_no_face": "error"}), 422, "No face")


def test_crops_are_the_same_pixels_flat_nested_and_in_binary(client, predictor):
    pixels = np.arange(2 * 2304).astype(np.uint8).reshape(2, 1, 48, 48)
    tensor = CROP | {"shape": [2, 1, 48, 48]}
    for data in (pixels.tolist(), pixels.ravel().tolist()):
        assert outputs(infer(client, tensor | {"data": data}))["labels"] == ["SAD", "SAD"]
    assert outputs(send_binary(client, tensor, pixels.tobytes()))["faces"] == [1, 1]
    seen = [np.asarray(picture.image) for picture in predictor.seen]
    assert len(seen) == 6
    assert all((one == pixels[number % 2, 0]).all() for number, one in enumerate(seen))


def test_outputs_are_those_that_are_requested_in_their_order(client):
    response = infer(client, CROP, outputs=[{"name": "faces"}, {"name": "labels"}])
    assert list(outputs(response)) == ["faces", "labels"]
    assert_refused(infer(client, CROP, outputs=[{"name": "scores"}]), 400, '"scores"', "labels")
    assert_refused(infer(client, CROP, outputs=[{"name": "faces"}, {"name": "faces"}]), 400, "twice")


def test_outputs_in_binary_follow_the_json_in_its_order(client):
    labels = {"name": "labels", "parameters": {"binary_data": False}}
    wanted = [{"name": "probabilities"}, labels, {"name": "columns"}]
    response = infer(client, CROP, outputs=wanted, parameters={"binary_data_output": True})
    length = int(response.headers[HEADER])
    described, binary = json.loads(response.data[:length])["outputs"], response.data[length:]
    assert described[1]["data"] == ["SAD"]
    sizes = [output["parameters"]["binary_data_size"] for output in (described[0], described[2])]
    assert np.frombuffer(binary[: sizes[0]], "<f4") == pytest.approx(list(ANSWER.values()))
    assert binary[sizes[0] :] == elements(*(label.encode() for label in ANSWER))
    assert sum(sizes) == len(binary)


def test_parameters_are_those_of_the_other_routes(client):
    found = outputs(infer(client, PICTURE, parameters={"reading": "labels", "labels": "five"}))
    assert found["columns"] == list(ANSWER)[:5]
    assert found["probabilities"][0] == pytest.approx(LABELS_ANSWER["ANGRY"] / 0.6)
    assert outputs(infer(client, PICTURE, parameters={"min_confidence": 0.9}))["labels"] == ["UNKNOWN"]
    assert_refused(infer(client, PICTURE, parameters={"priority": 1}), 400, "priority", "reading")
    response = client.post(f"{MODEL}/infer?detect=never&reading=labels", json={"inputs": [PICTURE]})
    assert outputs(response)["probabilities"] == list(LABELS_ANSWER.values())
    assert_refused(infer(client, CROP, parameters={"detect": "always"}), 400, "detect", "crops")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shape": [1, 48, 48]}, ["[1, 48, 48]", "[N, 1, 48, 48]"]),
        ({"shape": [1, 1, 32, 32]}, ["[N, 1, 48, 48]"]),
        ({"shape": [-1, 1, 48, 48]}, ["[-1, 1, 48, 48]"]),
        ({"shape": [1, -1, 48, -48]}, ["[N, 1, 48, 48]"]),
        ({"shape": []}, ["[]"]),
        ({"shape": [0, 1, 48, 48], "data": []}, ["no row"]),
        ({"shape": [1.5, 1, 48, 48]}, ["shape"]),
        ({"shape": [True, 1, 48, 48]}, ["shape"]),
        ({"shape": [1] * 1000}, ["shape"]),
        ({"shape": None}, ["shape"]),
        ({"datatype": "FP32"}, ["'FP32'", "UINT8"]),
        ({"datatype": "BYTES"}, ["'BYTES'", "UINT8"]),
        ({"data": [7] * 2303}, ["does not fill", "[1, 1, 48, 48]"]),
        ({"data": []}, ["does not fill"]),
        ({"data": [[7] * 2304]}, ["does not fill"]),
        ({"data": [[[[7] * 48] * 47 + [[7] * 47]]]}, ["does not fill"]),
        ({"data": [[[[7] * 48] * 47 + [7] * 48]]}, ["does not fill"]),
        ({"data": [256] * 2304}, ["0 to 255"]),
        ({"data": [-1] * 2304}, ["0 to 255"]),
        ({"data": [0.5] * 2304}, ["0 to 255"]),
        ({"data": [True] * 2304}, ["0 to 255"]),
        ({"data": ["7"] * 2304}, ["0 to 255"]),
        ({"data": [None] * 2304}, ["0 to 255"]),
        ({"data": "7" * 2304}, ["data"]),
        ({"data": None}, ["neither data"]),
        ({"name": "image"}, ['"image"', "pictures, crops"]),
        ({"name": 7}, ["name"]),
        ({"parameters": {"shared_memory_region": "a"}}, ["shared_memory_region", "binary_data_size"]),
        ({"parameters": {"binary_data_size": 0}}, ["both data"]),
        ({"parameters": []}, ["parameters"]),
    ],
)
def test_an_input_that_does_not_fit_is_refused_with_what_would(client, predictor, change, words):
    assert_refused(infer(client, CROP | change), 400, *words)
    assert not predictor.seen


@pytest.mark.parametrize("rows", [33, 10**30])
@pytest.mark.parametrize("tensor", [PICTURE, CROP], ids=["pictures", "crops"])
def test_more_rows_than_a_request_may_have_are_refused_before_their_data_is_read(client, tensor, rows):
    shape = [rows, *tensor["shape"][1:]]
    assert_refused(infer(client, tensor | {"shape": shape}), 413, str(rows)[:5], "32")
    assert_refused(send_binary(client, tensor | {"shape": shape}, b""), 413, "32")


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"inputs": []}, ["inputs"]),
        ({"inputs": [CROP, CROP]}, ["2 inputs"]),
        ({"inputs": [CROP, PICTURE]}, ["2 inputs"]),
        ({"inputs": {}}, ["inputs"]),
        ({"inputs": [{}]}, ["inputs.0.name"]),
        ({"id": 42}, ["id"]),
        ({"parameters": "reading"}, ["parameters"]),
        ({"parameters": {"binary_data_output": 1}}, ["binary_data_output", "true or false"]),
        ({"parameters": {"reading": None}}, ["reading"]),
        ({"parameters": {"\ud800": 1}}, ["There is no parameter \ud800. Known: labels"]),
        ({"outputs": [{"name": "labels", "parameters": {"binary_data": "yes"}}]}, ["binary_data", "true or false"]),
        ({"outputs": [{"name": "labels", "parameters": {"classification": 3}}]}, ["classification"]),
        ({"outputs": ["labels"]}, ["outputs.0"]),
    ],
)
def test_a_request_that_does_not_fit_is_refused_with_the_member_that_does_not(client, members, words):
    assert_refused(client.post(f"{MODEL}/infer", json={"inputs": [CROP]} | members), 400, *words)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b"7", b"\xff\xfe", FACE, b'{"inputs": NaN}', b'{"inputs": [1e999]}',
        b'{"inputs": [{"name": "crops", "shape": [' + b"9" * 5000 + b"]}]}", b"[" * 100_000, b"[1" + b",1" * 200_000,
        b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    ],
    ids=range(13),
)  # fmt: skip
def test_a_body_that_is_not_the_json_of_the_protocol_is_refused(client, body):
    assert_refused(client.post(f"{MODEL}/infer", data=body), 400)


@pytest.mark.parametrize("header", ["-1", "0", "1", "99999", "1e3", "٣", "", "x", "9" * 500, "10, 10"])
def test_a_header_that_lies_about_the_length_of_the_json_is_refused(client, header):
    body = json.dumps({"inputs": [CROP]}).encode()
    assert_refused(client.post(f"{MODEL}/infer", data=body, headers={HEADER: header}), 400, HEADER)


@pytest.mark.parametrize("size", [0, 2303, 2305, -2304, 2304.0, "2304", True, 10**30])
def test_a_size_of_binary_data_that_does_not_fit_the_body_is_refused(client, size):
    tensor = {name: CROP[name] for name in ("name", "shape", "datatype")} | {"parameters": {"binary_data_size": size}}
    content = json.dumps({"inputs": [tensor]}).encode()
    response = client.post(f"{MODEL}/infer", data=content + bytes(2304), headers={HEADER: str(len(content))})
    assert_refused(response, 400, "binary_data_size")


def test_bytes_behind_the_json_belong_to_an_input(client):
    content = json.dumps({"inputs": [CROP]}).encode()
    response = client.post(f"{MODEL}/infer", data=content + b"more", headers={HEADER: str(len(content))})
    assert_refused(response, 400, "4 follow")
    assert_refused(send_binary(client, CROP, bytes(2000)), 400, "2000 bytes", "2304")


@pytest.mark.parametrize(
    "binary",
    [
        b"", b"\1", elements(FACE)[:-1], elements(FACE) + b"\0", elements(FACE, FACE), FACE,
        struct.pack("<I", 2**32 - 1) + FACE, struct.pack(">I", len(FACE)) + FACE, struct.pack("<I", 0) + FACE,
    ],
    ids=range(9),
)  # fmt: skip
def test_lengths_of_elements_that_lie_are_refused(client, binary):
    assert_refused(send_binary(client, PICTURE, binary), 400, "not 1 elements")


def test_an_error_names_the_picture_among_several_and_has_its_usual_status(client):
    two = PICTURE | {"shape": [2]}
    assert_refused(send_binary(client, two, elements(FACE, b"not a picture")), 422, "Picture 2 of 2: The file is text")
    assert_refused(send_binary(client, PICTURE, elements(b"")), 400, "The file is empty")
    assert_refused(infer(client, two | {"data": ["aaaa", "%"]}), 400, "Picture 2 of 2: The image is not valid base64")
    assert_refused(infer(client, PICTURE | {"data": ["%"]}), 400, "The image is not valid base64")
    assert_refused(infer(client, PICTURE | {"data": [7]}), 400, "base64")


def test_limits_are_those_of_the_other_routes(client):
    large = encode(Image.new("L", (800, 800)))
    assert outputs(send_binary(client, PICTURE, elements(large)))["labels"] == ["SAD"]
    response = send_binary(client, PICTURE | {"shape": [2]}, elements(large, large))
    assert_refused(response, 422, "Picture 2 of 2", "1000000 pixels together")
    assert_refused(client.post(f"{MODEL}/infer", data=bytes(1_000_001)), 413)
    assert_refused(client.post(f"{MODEL}/infer", data=b"x", headers={"Content-Encoding": "gzip"}), 415)


def test_every_error_below_v2_has_the_form_of_the_protocol(client, predictor):
    assert_refused(client.get("/v2/nothing"), 404)
    assert_refused(client.get(f"{MODEL}/infer"), 405)
    assert_refused(client.get("/v2", headers={"Host": "faces.example"}), 421)
    predictor.failure = OSError("secret")
    assert_refused(infer(client, CROP), 500, "log")
    assert client.get("/v2x").content_type == "application/problem+json"


def test_the_protocol_asks_for_the_token_but_its_health_checks_do_not():
    client = create_app(Service(StubPredictor()), Settings(token="sesame-9")).test_client()
    for path in ("/v2/health/live", "/v2/health/ready", f"{MODEL}/ready"):
        assert client.get(path).status_code == 200
    for path in ("/v2", MODEL):
        assert_refused(client.get(path), 401, "token")
    assert_refused(infer(client, CROP), 401, "token")


def test_a_crop_has_the_size_that_the_model_reads(predictor):
    facts = PUBLIC_FACTS | {"input": {"width": 24, "height": 24}}
    predictor.public_facts = lambda: facts
    client = create_app(Service(predictor), LIMITS).test_client()
    assert client.get(MODEL).get_json()["inputs"][1]["shape"] == [-1, 1, 24, 24]
    assert outputs(infer(client, CROP | {"shape": [4, 1, 24, 24]}))["labels"] == ["SAD"] * 4


TEXT = strategies.text(max_size=9)
VALUES = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers() | strategies.floats() | TEXT,
    lambda inner: strategies.lists(inner, max_size=3) | strategies.dictionaries(TEXT, inner),
    max_leaves=6,
)
MEMBERS = strategies.sampled_from(["name", "shape", "datatype", "parameters", "data", "inputs", "outputs", "id"])


@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    tensor=strategies.sampled_from([PICTURE, CROP]),
    change=strategies.dictionaries(MEMBERS, VALUES, max_size=2),
    members=strategies.dictionaries(MEMBERS, VALUES, max_size=2),
    header=strategies.none() | strategies.integers(0, 300).map(str),
)
def test_any_request_is_answered_or_refused_in_the_form_of_the_protocol(client, tensor, change, members, header):
    body = json.dumps({"inputs": [tensor | change]} | members)
    response = client.post(f"{MODEL}/infer", data=body, headers={HEADER: header} if header else {})
    assert response.status_code < 500, response.text
    if response.status_code != 200:
        assert_refused(response, response.status_code)
