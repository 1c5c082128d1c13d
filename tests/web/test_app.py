"""The HTTP routes with a stub predictor: answers, parameters, and errors."""

from __future__ import annotations

import base64
import copy
import io
import json
import sys
import tempfile
import time

import pytest
from flask.testing import FlaskClient
from PIL import Image
from werkzeug.test import TestResponse

from dexpression import extras
from dexpression.labels import FIVE
from dexpression.logs import TextLines
from dexpression.settings import Settings
from dexpression.web import create_app
from dexpression.web.service import MAY_TAKE_LONG, Postponed, Service
from tests.support.faces import draw_face, encode, encode_turned
from tests.support.heic import encode_heic
from tests.support.web import (
    ANSWER,
    FACE,
    LANDMARKS,
    MULTIPART,
    PUBLIC_FACTS,
    StubPredictor,
    assert_refused,
    multipart,
)


def upload(
    client: FlaskClient, content: bytes, name: str = "face.png", address: str = "/", **options: object
) -> TestResponse:
    return client.post(address, data=multipart(content, name=name), content_type=MULTIPART, **options)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "AVIF"])
def test_the_answer_to_a_picture_is_exactly_one_label_in_json(client, file_format):
    response = upload(client, encode(draw_face("HAPPY", 0), file_format))
    assert (response.status_code, response.content_type) == (200, "application/json")
    assert response.data == b'{"result": "HAPPY"}'


def test_the_picture_reaches_the_predictor_upright(client, predictor):
    upload(client, encode_turned(Image.new("L", (40, 60)), 6))
    assert predictor.seen[0].image.size == (40, 60)


BROKEN = {"content_type": "multipart/form-data; boundary=x"}
IN_JSON = base64.b64encode(FACE).decode()


@pytest.mark.parametrize(
    "request_options",
    [
        {"data": multipart(FACE), "content_type": MULTIPART},
        {"data": multipart(FACE).replace(b'; filename="face.png"', b""), "content_type": MULTIPART},
        {"data": FACE, "content_type": "image/png"},
        {"data": FACE, "content_type": "application/x-www-form-urlencoded"},
        {"data": FACE, "content_type": "application/json"},
        {"data": FACE},
        {"json": {"image": IN_JSON}},
        {"data": json.dumps({"image": IN_JSON}), "content_type": "application/x-www-form-urlencoded"},
        {"data": json.dumps({"image": IN_JSON})},
        {"json": {"image": f"data:image/png;base64,{IN_JSON}"}},
        {"json": {"image": f" DATA:image/png;BASE64,{IN_JSON}"}},
        {"json": {"image": "\n".join(IN_JSON[start : start + 76] for start in range(0, len(IN_JSON), 76))}},
    ],
    ids=[
        "multipart",
        "multipart without a file name",
        "raw",
        "raw as a form of a page",
        "raw as JSON",
        "raw without a type",
        "base64",
        "base64 as a form of a page",
        "base64 without a type",
        "data URL",
        "data URL in capitals",
        "base64 in lines",
    ],
)
def test_every_form_of_request_gives_the_same_answer(client, request_options):
    assert client.post("/", **request_options).data == b'{"result": "HAPPY"}'
    body = client.post("/v1/predict", **request_options).get_json()
    assert (body["result"], body["confidence"], body["image"]) == ("SAD", 0.4, {"width": 48, "height": 48})


ANY_TYPE = ["application/octet-stream", None, "image/gif", "text/plain", "video/mp4", "*/*", "nonsense"]
BODY_TYPES = [
    "application/x-www-form-urlencoded",
    "application/json",
    "multipart/form-data",
    "multipart/form-data; boundary=x",
]


@pytest.mark.parametrize("kind", [*ANY_TYPE, *BODY_TYPES])
@pytest.mark.parametrize("file_format", ["JPEG", "AVIF"])
def test_a_picture_as_the_whole_body_is_read_whatever_its_content_type_says(client, kind, file_format):
    face = encode(draw_face("HAPPY", 0), file_format)
    assert client.post("/", data=face, content_type=kind).data == b'{"result": "HAPPY"}'


@pytest.mark.parametrize(
    ("content", "kind", "found"),
    [
        (b"%PDF-1.7", "application/pdf", "a PDF document"),
        (b"<!doctype html><title>Error", "image/jpeg", "a web page (HTML)"),
        (encode(draw_face("HAPPY", 0), "TIFF"), "application/octet-stream", "a TIFF picture"),
        (b"PK\3\4" + bytes(50), None, "a ZIP archive, or a document in one"),
        (b"hello", "text/plain", "text"),
    ],
)
def test_the_error_for_what_is_no_picture_names_what_came_alone_and_in_a_form(client, content, kind, found):
    for response in (client.post("/", data=content, content_type=kind), upload(client, content, "face.jpg")):
        assert_refused(response, 422, "undecodable_image")
        message = f"The file is {found}, not a picture that can be read. Send JPEG, PNG, WebP, BMP, GIF or AVIF."
        assert response.get_json(force=True)["detail"] == message


@pytest.mark.parametrize("extra", [True, False])
def test_heic_is_read_or_refused_with_what_to_install_alone_in_a_form_and_in_json(client, monkeypatch, extra):
    pytest.importorskip("pillow_heif", reason="HEIC is read with the extra heic")
    content = encode_heic(draw_face("HAPPY", 0))
    if not extra:
        monkeypatch.setitem(sys.modules, "pillow_heif", None)
        monkeypatch.setattr(extras, "distribution", str)  # as if the package were installed
    for response in (
        client.post("/", data=content, content_type="application/x-www-form-urlencoded"),
        upload(client, content, "IMG_0001.HEIC"),
        client.post("/", json={"image": base64.b64encode(content).decode()}),
    ):
        if extra:
            assert response.data == b'{"result": "HAPPY"}'
        else:
            assert_refused(response, 422, "undecodable_image")
            assert response.get_json(force=True)["detail"] == (
                "The file is a HEIC picture, which this installation does not read. Send JPEG, PNG, WebP, BMP, GIF or "
                "AVIF, or install the decoder: python3 -m pip install 'dexpression[heic]'"
            )


@pytest.mark.parametrize("path", ["/", "/v1/predict"])
@pytest.mark.parametrize("film", [b"\0\0\0\x18ftypmp42\0\0\0\0isommp42", b"\x1aE\xdf\xa3\x9f", b"FLV\x01\x05"])
def test_a_film_is_refused_with_the_command_that_reads_it_alone_in_a_form_and_in_json(client, path, film):
    encoded = {"image": base64.b64encode(film).decode()}
    requests = ({"data": film, "content_type": "video/mp4"}, {"data": multipart(film), "content_type": MULTIPART})
    for request in (*requests, {"json": encoded}):
        response = client.post(path, **request)
        assert_refused(response, 415, "unsupported_media_type")
        assert "Run: dexpression video FILM, where the film lies." in response.get_json(force=True)["detail"]


def test_a_film_beside_pictures_is_an_error_of_its_own(client):
    response = client.post("/v1/predict", data=multipart(FACE, b"FLV\x01\x05"), content_type=MULTIPART)
    answer, error = response.get_json()["results"]
    assert (answer["result"], error["status"]) == ("SAD", 415)


def part(name: str, file_name: str | None = "face.png", content: bytes = FACE) -> bytes:
    file_name = "" if file_name is None else f'; filename="{file_name}"'
    return f'--cut\r\nContent-Disposition: form-data; name="{name}"{file_name}\r\n\r\n'.encode() + content + b"\r\n"


END = b"--cut--\r\n"


@pytest.mark.parametrize(
    ("body", "kind", "code", "message"),
    [
        (
            part("image") + END,
            MULTIPART,
            "missing_file",
            'a file in the part "image" and none in a part "file". Rename',
        ),
        (part("file[]") + part("b") + END, MULTIPART, "missing_file", 'a file in the parts "file[]", "b" and none'),
        (part("labels", None, b"five") + END, MULTIPART, "missing_file", 'has the part "labels" and no part "file"'),
        (part("file") + part("image") + END, MULTIPART, "bad_parameter", 'has files in the part "image". Send every'),
        (multipart(FACE), "multipart/form-data", "missing_file", "has no boundary. Leave this header to the client"),
        (multipart(FACE), "multipart/form-data; boundary=x", "missing_file", 'begins with the boundary "x" that the'),
        (multipart(FACE), "image/png", "unsupported_media_type", "is a form and has the content type image/png. Leave"),
        (multipart(FACE), "application/json", "unsupported_media_type", "is a form and has the content type"),
        (
            b'{"picture": "a", "b": 1}',
            "application/json",
            "missing_file",
            'has the members "picture", "b" and no "image"',
        ),
        (b'["aa"]', "application/json", "missing_file", "The JSON is no object with members"),
        (b'{"image": ["aa"]}', "application/json", "missing_file", 'The member "image" of the JSON is no text'),
        (b"file=%89PNG", "application/x-www-form-urlencoded", "unsupported_media_type", "which can hold no picture"),
    ],
)
def test_the_error_for_a_body_without_a_picture_says_what_came_and_what_to_change(client, body, kind, code, message):
    response = client.post("/", data=body, content_type=kind)
    detail = response.get_json(force=True)
    assert (detail["code"], message in detail["detail"]) == (code, True), detail["detail"]


def test_a_form_may_have_other_file_fields_that_were_left_empty(client):
    body = part("file") + part("second", "", b"") + END
    assert client.post("/", data=body, content_type=MULTIPART).status_code == 200


def test_a_part_without_a_name_is_refused(client):
    body = FACE.join([b"--cut\r\nContent-Disposition: form-data; filename=x\r\n\r\n", b"\r\n" + END])
    assert client.post("/", data=body, content_type=MULTIPART).status_code == 400


def test_tiles_keep_more_pixels_of_a_large_picture_and_may_take_long(predictor):
    client = create_app(Service(predictor), Settings()).test_client()
    large = encode(Image.new("1", (2100, 2100)))
    for detect, side in (("auto", 1050), ("tiles", 2100)):
        assert upload(client, large, address=f"/?detect={detect}").status_code == 200
        assert predictor.seen[-1].image.size == (side, side)
    with pytest.raises(Postponed):
        upload(client, FACE, address="/?detect=tiles", environ_overrides={MAY_TAKE_LONG: False})


def test_a_reading_names_every_face_the_model_and_the_request(client):
    response = upload(client, FACE, address="/v1/predict")
    body = response.get_json()
    [face] = body["faces"]
    assert face["box"] == {"x": 1, "y": 2, "width": 29, "height": 38}
    assert (face["detection_confidence"], face["probabilities"]) == (0.9, ANSWER)
    assert (face["landmarks"], face["roll"]) == (LANDMARKS.to_dict(), 0)
    assert (body["reading"], client.post("/?detail=full", json={"image": IN_JSON}).get_json()["reading"]) == (
        "people", "people",
    )  # fmt: skip
    assert body["model"] == {"name": "dexpression", "sha256": "0a"}
    assert body["request_id"] == response.headers["X-Request-ID"]


def test_without_a_face_the_root_gives_the_label_of_the_whole_picture_and_v1_gives_null(client, predictor):
    predictor.has_face = False
    assert upload(client, FACE).get_json() == {"result": "HAPPY"}
    body = upload(client, FACE, address="/v1/predict").get_json()
    assert (body["result"], body["probabilities"], body["faces"]) == (None, None, [])
    body = upload(client, FACE, address="/?detail=full").get_json()
    assert (body["result"], body["faces"]) == ("HAPPY", [])
    assert_refused(upload(client, FACE, address="/?on_no_face=error"), 422, "no_face")


def test_the_headers_of_the_root_say_how_many_faces_there_are_and_what_to_do_without_one(client, predictor):
    response = upload(client, FACE)
    assert (response.headers["X-Faces"], "X-Hint" in response.headers) == ("1", False)
    predictor.has_face = False
    response = upload(client, FACE)
    assert response.data == b'{"result": "HAPPY"}'
    assert response.headers["X-Faces"] == "0"
    assert "on_no_face=error" in response.headers["X-Hint"]
    several = client.post("/", data=multipart(FACE, FACE), content_type=MULTIPART)
    assert "X-Faces" not in several.headers  # it would not say which of the pictures has them


@pytest.mark.parametrize(
    ("address", "result"),
    [
        ("/?labels=seven", "SAD"),
        ("/?min_confidence=0.51", "UNKNOWN"),  # among five labels, HAPPY has 0.3 of 0.6
        ("/?min_confidence=0.5", "HAPPY"),
        ("/v1/predict?labels=five", "HAPPY"),
        ("/v1/predict?min_confidence=1", "UNKNOWN"),
    ],
)
def test_parameters_choose_the_labels_and_the_lowest_confidence(client, address, result):
    assert upload(client, FACE, address=address).get_json()["result"] == result


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("labels=nine", "labels is 'nine'. Input should be 'five' or 'seven'"),
        ("detect=", "detect is ''. Input should be 'auto', 'always', 'never', 'thorough' or 'tiles'"),
        ("min_confidence=2", "min_confidence is '2'. Input should be less than or equal to 1"),
        ("min_confidence=nan", "finite"),
        ("reading=votes", "reading is 'votes'. Input should be 'people' or 'labels'"),
        ("label=five", "no parameter label. Known: labels, reading, detect"),
        ("labels=five&labels=seven", "labels is given more than once"),
    ],
)
@pytest.mark.parametrize("path", ["/", "/v1/predict"])
def test_the_error_for_a_bad_parameter_names_it_its_value_and_the_allowed_values(client, path, query, message):
    response = upload(client, FACE, address=f"{path}?{query}")
    assert_refused(response, 400, "bad_parameter")
    assert message in response.get_json(force=True)["detail"]


def send(client: FlaskClient, place: str, path: str, parameters: dict[str, object], **query: object) -> TestResponse:
    """Send a face with `parameters` in the query, in form fields or in JSON members, and others in the query."""
    body: dict[str, object] = {"data": multipart(FACE), "content_type": MULTIPART}
    if place == "query":
        query |= parameters
    elif place == "form":
        body["data"] = multipart(FACE, fields=[(name, str(value)) for name, value in parameters.items()])
    else:
        body = {"json": {"image": IN_JSON} | parameters}
    return client.post(path, query_string=query, headers={"X-Request-ID": "same"}, **body)


PLACES = ("query", "form", "json")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("labels", "seven"),
        ("reading", "labels"),
        ("detect", "never"),
        ("min_confidence", 0.51),
        ("detail", "full"),
        ("on_no_face", "error"),
    ],
)
def test_a_parameter_changes_the_answer_alike_in_the_query_a_form_field_and_a_json_member(
    client, predictor, name, value
):
    predictor.has_face = name not in ("detect", "on_no_face")
    query = {} if name == "detail" else {"detail": "full"}
    answers = {send(client, place, "/", {name: value}, **query).data for place in PLACES}
    assert len(answers) == 1
    assert send(client, "query", "/", {}, **query).data not in answers


@pytest.mark.parametrize("place", PLACES)
def test_an_unknown_parameter_is_refused_by_name_wherever_it_is(client, place):
    response = send(client, place, "/v1/predict", {"detail": "full"})
    assert_refused(response, 400, "bad_parameter")
    message = "There is no parameter detail. Known: labels, reading, detect, min_confidence, explain."
    assert response.get_json(force=True)["detail"] == message


@pytest.mark.parametrize("path", ["/", "/v1/predict"])
def test_the_name_of_a_parameter_may_be_any_text_that_json_can_write(client, path):
    response = client.post(path, json={"image": base64.b64encode(FACE).decode(), "\ud800": 1})
    assert_refused(response, 400, "bad_parameter")
    assert "There is no parameter \ud800. Known: labels" in response.get_json(force=True)["detail"]


@pytest.mark.parametrize("place", ["form", "json"])
def test_a_parameter_in_query_and_body_is_refused(client, place):
    response = send(client, place, "/", {"reading": "labels"}, reading="labels")
    assert_refused(response, 400, "bad_parameter")
    assert "reading is given more than once" in response.get_json(force=True)["detail"]


def test_a_form_field_that_is_given_twice_is_refused(client):
    body = multipart(FACE, fields=[("labels", "five"), ("labels", "five")])
    response = client.post("/", data=body, content_type=MULTIPART)
    assert_refused(response, 400, "bad_parameter")
    assert "labels is given more than once" in response.get_json(force=True)["detail"]


@pytest.mark.parametrize("name", ["labels", "reading", "detect", "min_confidence"])
@pytest.mark.parametrize("value", [None, True, ["five"], {"a": 1}, 1e999, "\ud800"])
def test_a_json_member_that_is_no_allowed_text_or_number_is_refused(client, name, value):
    response = send(client, "json", "/v1/predict", {name: value})
    assert_refused(response, 400, "bad_parameter")
    assert response.get_json(force=True)["detail"].startswith(f"The parameter {name} is ")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("value", "labels"), [("true", ["SAD"]), ("all", list(ANSWER))])
def test_an_explanation_is_the_evidence_for_the_answer_or_for_all_labels(client, place, value, labels):
    [face] = send(client, place, "/v1/predict", {"explain": value}).get_json()["faces"]
    assert list(face["evidence"]["maps"]) == labels
    assert face["evidence"]["maps"]["SAD"] == [[0.4, -0.4], [0.0, 0.4]]
    assert face["evidence"]["box"] == {"x": 0, "y": 4, "width": 33, "height": 33}


@pytest.mark.parametrize(("value", "explained"), [(True, True), (False, False)])
def test_explain_may_be_a_boolean_of_json(client, value, explained):
    [face] = send(client, "json", "/v1/predict", {"explain": value}).get_json()["faces"]
    assert ("evidence" in face) == explained


def test_the_root_explains_only_a_full_answer_and_among_its_labels(client):
    assert_refused(upload(client, FACE, address="/?explain=true"), 400, "bad_parameter")
    [face] = upload(client, FACE, address="/?explain=all&detail=full").get_json()["faces"]
    assert list(face["evidence"]["maps"]) == list(FIVE)


@pytest.mark.parametrize("address", ["/?detail=full&explain=true", "/v1/predict?explain=all"])
def test_a_model_without_evidence_refuses_to_explain_and_says_what_to_do(client, monkeypatch, address):
    monkeypatch.setitem(PUBLIC_FACTS, "network", {})
    response = upload(client, FACE, address=address)
    assert_refused(response, 400, "bad_parameter")
    assert "gives no evidence" in response.get_json(force=True)["detail"]
    assert "Export its learner again" in response.get_json(force=True)["detail"]


def test_who_accepts_png_alone_gets_the_picture_with_its_evidence_reduced(client):
    wide = encode(Image.new("RGB", (1400, 100), "white"))
    response = upload(client, wide, address="/v1/predict?explain=true", headers={"Accept": "image/png"})
    assert (response.status_code, response.content_type) == (200, "image/png")
    assert Image.open(io.BytesIO(response.data)).size == (1280, 91)


def test_a_face_whose_confidence_is_too_low_is_unknown_in_the_picture_too(client):
    black, address = encode(Image.new("RGB", (256, 256))), "/v1/predict?explain=true&min_confidence="
    drawn = [upload(client, black, address=f"{address}{least}", headers={"Accept": "image/png"}) for least in (0, 1)]
    assert drawn[0].data != drawn[1].data


@pytest.mark.parametrize("accepted", ["*/*", "application/json, image/png", "text/html"])
def test_who_accepts_json_as_well_gets_json(client, accepted):
    response = upload(client, FACE, address="/v1/predict?explain=true", headers={"Accept": accepted})
    assert response.content_type == "application/json"


def test_without_an_explanation_the_header_accept_changes_nothing(client):
    response = upload(client, FACE, address="/v1/predict", headers={"Accept": "image/png"})
    assert response.content_type == "application/json"


def test_several_pictures_are_not_answered_by_one_picture(client):
    body, headers = multipart(FACE, FACE), {"Accept": "image/png"}
    response = client.post("/v1/predict?explain=true", data=body, content_type=MULTIPART, headers=headers)
    assert_refused(response, 400, "bad_parameter")


@pytest.mark.parametrize("place", PLACES)
def test_a_model_without_votes_refuses_the_reading_of_people_with_the_reason(client, monkeypatch, place):
    monkeypatch.setitem(PUBLIC_FACTS, "readings", ["labels"])
    response = send(client, place, "/", {"reading": "people"})
    assert_refused(response, 400, "bad_parameter")
    message = "reading is 'people'. This model was trained without FER+ votes. It has only labels."
    assert message in response.get_json(force=True)["detail"]


def test_the_setting_chooses_the_reading_unless_the_request_does(predictor):
    client = create_app(Service(predictor), Settings(reading="labels")).test_client()
    addresses = ("/?detail=full", "/v1/predict", "/v1/predict?reading=people")
    answers = [upload(client, FACE, address=address).get_json() for address in addresses]
    assert [answer["reading"] for answer in answers] == ["labels", "labels", "people"]
    assert upload(client, FACE).get_json() == {"result": "ANGRY"}


def test_labels_that_the_model_does_not_know_are_a_bad_parameter(predictor, monkeypatch):
    monkeypatch.setitem(PUBLIC_FACTS, "labels", list(FIVE))
    client = create_app(Service(predictor), Settings()).test_client()
    response = upload(client, FACE, address="/?labels=seven")
    assert_refused(response, 400, "bad_parameter")
    assert "labels is 'seven'. This model knows only ANGRY, DISGUST" in response.get_json(force=True)["detail"]


def test_a_bad_picture_among_several_does_not_affect_the_others(client, predictor):
    parts = multipart(FACE, b"", b"not a picture", FACE)
    results = client.post("/", data=parts, content_type=MULTIPART).get_json()["results"]
    assert [answer.get("result", answer.get("code")) for answer in results] == [
        "HAPPY", "empty_file", "undecodable_image", "HAPPY",
    ]  # fmt: skip
    predictor.failure = ZeroDivisionError("secret")
    results = client.post("/v1/predict", data=multipart(FACE, FACE), content_type=MULTIPART).get_json()["results"]
    assert [answer["code"] for answer in results] == ["internal_server_error"] * 2
    assert "secret" not in str(results)


def test_several_pictures_share_one_pixel_limit(client):
    large = encode(Image.new("1", (800, 800)))  # pixels; the limit of this client is a million
    results = client.post("/", data=multipart(large, large, FACE), content_type=MULTIPART).get_json()["results"]
    assert [answer.get("code") for answer in results] == [None, "too_many_pixels", None]


def test_an_error_repeats_only_a_short_part_of_the_query(client):
    for query in ("labels=" + "a" * 10_000, "a" * 10_000 + "=1", "&".join(["b" * 10_000 + "=1"] * 2)):
        response = upload(client, FACE, address=f"/?{query}")
        assert_refused(response, 400, "bad_parameter")
        assert len(response.data) < 1_000


def test_a_public_page_may_call_a_server_on_this_machine(client):
    preflight = {
        "Origin": "https://elsewhere.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Private-Network": "true",
    }
    assert client.options("/", headers=preflight).headers["Access-Control-Allow-Private-Network"] == "true"


@pytest.mark.parametrize("path", ["/", "/docs/", "/client.js", "/v1/model", "/nothing"])
def test_every_answer_has_the_security_headers(client, path):
    with client.get(path) as response:
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]
        assert ("unsafe" in response.headers["Content-Security-Policy"]) is False


def test_the_facts_about_the_model_are_served(client):
    assert client.get("/v1/model").get_json() == PUBLIC_FACTS


@pytest.mark.parametrize("name", ["../../etc/passwd", "face.exe", "a;b=c.png", "x" * 5000, "Gesicht ü.png"])
def test_the_file_name_of_an_upload_is_ignored(client, name):
    assert upload(client, encode(draw_face("HAPPY", 0)), name).status_code == 200


def test_an_upload_is_never_written_to_disk(client, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")  # creating a temporary file now fails
    large = encode(Image.effect_noise((900, 900), 100), "BMP")
    assert len(large) > 500_000  # by default, werkzeug writes a part of this size to disk
    assert upload(client, large).status_code == 200


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 400, "empty_file"),
        (b"not a picture", 422, "undecodable_image"),
        (encode(draw_face("HAPPY", 0))[:60], 422, "undecodable_image"),
        (encode(Image.new("1", (1001, 1000))), 422, "too_many_pixels"),
        (bytes(1_000_001), 413, "payload_too_large"),
    ],
    ids=["empty", "text", "truncated", "many pixels", "large"],
)
def test_an_upload_that_is_not_a_picture_within_the_limits_is_refused(client, content, status, code):
    assert_refused(upload(client, content), status, code)


@pytest.mark.parametrize(
    ("request_options", "status", "code"),
    [
        ({}, 400, "missing_file"),
        ({"data": {"picture": (io.BytesIO(b"x"), "face.png")}}, 400, "missing_file"),
        ({"data": {"file": "only text"}}, 415, "unsupported_media_type"),
        ({"data": {"file": "x" * 600_000}}, 415, "unsupported_media_type"),
        ({"data": b"cut", "content_type": "multipart/form-data; boundary=x"}, 400, "missing_file"),
        ({"data": multipart(FACE)[:-20], "content_type": MULTIPART}, 400, "bad_request"),
        ({"data": multipart(FACE).replace(b' name="file";', b""), "content_type": MULTIPART}, 400, "missing_file"),
        ({"json": {}}, 400, "missing_file"),
        ({"json": {"image": 7}}, 400, "missing_file"),
        ({"json": {"image": "http://127.0.0.1/face.png"}}, 400, "bad_base64"),
        ({"json": {"image": "data:text/html,<p>"}}, 400, "bad_base64"),
        ({"json": {"image": "/etc/passwd"}}, 400, "bad_base64"),
        ({"json": {"image": ""}}, 400, "empty_file"),
        ({"data": b"{", "content_type": "application/json"}, 400, "bad_request"),
        ({"data": b'{"image":' + b"[" * 100_000, "content_type": "application/json"}, 400, "bad_request"),
        ({"data": multipart(*[FACE] * 33), "content_type": MULTIPART}, 413, "payload_too_large"),
        ({"data": b"", "content_type": "image/png"}, 400, "empty_file"),
        ({"data": b"x", "content_type": "text/plain"}, 422, "undecodable_image"),
        ({"data": b"x"}, 422, "undecodable_image"),
        ({"data": b"", "content_type": "application/octet-stream"}, 400, "missing_file"),
    ],
)
@pytest.mark.parametrize("address", ["/", "/v1/predict"])
def test_a_request_without_a_valid_picture_is_refused(client, address, request_options, status, code):
    response = client.post(address, **copy.deepcopy(request_options))
    assert_refused(response, status, code)


@pytest.mark.parametrize(
    ("request_options", "status", "code"),
    [
        ({}, 400, "missing_file"),
        ({"data": {"file": "x" * 600_000}}, 415, "unsupported_media_type"),
        ({"data": b"cut", **BROKEN}, 400, "missing_file"),
    ],
)
def test_the_error_for_a_missing_part_shows_how_curl_sends_it(client, request_options, status, code):
    response = client.post("/", **request_options)
    assert_refused(response, status, code)
    assert "curl -F file=@" in response.get_json(force=True)["detail"]


@pytest.mark.parametrize("body", [{"data": multipart(FACE), "content_type": MULTIPART}, {"json": {"image": IN_JSON}}])
def test_a_compressed_body_is_refused_and_the_error_says_so(client, body):
    response = client.post("/", headers={"Content-Encoding": "gzip"}, **body)
    assert_refused(response, 415, "unsupported_media_type")
    assert "Content-Encoding gzip" in response.get_json(force=True)["detail"]


def test_the_error_for_another_method_lists_the_allowed_methods(client):
    response = client.put("/")
    assert_refused(response, 405, "method_not_allowed")
    assert "POST" in response.headers["Allow"]


def test_an_unknown_path_is_refused(client):
    assert_refused(client.get("/model/dexpression.pkl"), 404, "not_found")


def test_an_unforeseen_exception_is_logged_and_its_text_is_not_sent(client, predictor, caplog):
    predictor.failure = ZeroDivisionError("secret of /site-packages/x.py")
    response = upload(client, encode(draw_face("HAPPY", 0)))
    assert_refused(response, 500, "internal_server_error")
    [record] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "ZeroDivisionError" in TextLines().format(record)
    assert "/site-packages/x.py" not in TextLines().format(record)
    assert response.headers["X-Request-ID"] in caplog.text


def test_a_page_of_any_origin_may_post(client):
    origin = {"Origin": "https://elsewhere.example"}
    response = upload(client, encode(draw_face("HAPPY", 0)), headers=origin)
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert "X-Faces" in response.headers["Access-Control-Expose-Headers"]
    assert client.post("/", headers=origin).headers["Access-Control-Allow-Origin"] == "*"


def test_a_preflight_request_of_a_web_page_is_answered(client):
    preflight = {
        "Origin": "https://elsewhere.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-anything",
    }
    response = client.options("/", headers=preflight)
    assert response.status_code == 200
    assert "POST" in response.headers["Access-Control-Allow-Methods"]
    assert response.headers["Access-Control-Allow-Headers"] == "x-anything"


def test_a_valid_request_id_is_kept_and_any_other_is_replaced(client):
    assert client.get("/health/live", headers={"X-Request-ID": "job-7.b"}).headers["X-Request-ID"] == "job-7.b"
    replaced = client.get("/health/live", headers={"X-Request-ID": "a b<script>"}).headers["X-Request-ID"]
    assert len(replaced) == 32


def test_the_server_is_ready_only_if_a_real_prediction_succeeds(client, predictor, monkeypatch):
    assert client.get("/health/ready").status_code == 200
    predictor.failure = RuntimeError("no weights")
    now = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: now() + 1)  # an answer holds for a second
    assert_refused(client.get("/health/ready"), 503, "not_ready")
    assert client.get("/health/live").get_json() == {"status": "live"}


def test_readiness_is_tried_once_a_second_however_often_it_is_asked_for(client, predictor):
    assert [client.get("/health/ready").status_code for _ in range(20)] == [200] * 20
    assert len(predictor.seen) == 1


def test_readiness_is_tried_at_once_with_a_new_model(predictor):
    service = Service(predictor)
    assert service.can_predict()
    service.predictor = StubPredictor()
    service.predictor.failure = RuntimeError("no weights")
    assert not service.can_predict()
