"""A stub predictor, request bodies, and a check of the form that every error response has."""

from __future__ import annotations

from collections.abc import Sequence

from werkzeug.test import TestResponse

from dexpression.labels import READINGS, ReadingName
from dexpression.landmarks import Landmarks
from dexpression.picture import Box, Picture, Point
from dexpression.reading import FaceReading, Prediction, Reading
from dexpression.settings import Settings
from tests.support.faces import draw_face, encode

MULTIPART = "multipart/form-data; boundary=cut"


def multipart(*contents: bytes, name: str = "face.png", fields: Sequence[tuple[str, str]] = ()) -> bytes:
    """The body that `curl -F file=@face.png -F name=value` sends; `fields` are names and values.

    werkzeug's test client would write a large one to disk.
    """
    head = f'--cut\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
    files = b"".join(head + content + b"\r\n" for content in contents)
    field = '--cut\r\nContent-Disposition: form-data; name="{}"\r\n\r\n{}\r\n'
    return files + "".join(field.format(*given) for given in fields).encode() + b"--cut--\r\n"


def post_request(body: bytes, content_type: str = MULTIPART) -> bytes:
    """A complete POST request, for a test that writes single bytes."""
    head = f"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


ANSWER = {"ANGRY": 0.1, "DISGUST": 0.0, "FEAR": 0.1, "HAPPY": 0.3, "NEUTRAL": 0.1, "SAD": 0.4, "SURPRISE": 0.0}
LABELS_ANSWER = ANSWER | {"ANGRY": 0.3, "HAPPY": 0.1}
RESULT = {"split": "valid", "n": 9, "accuracy": 0.7, "balanced_accuracy": 0.6, "ece": 0.1, "recall": {"SAD": None}}
PUBLIC_FACTS = {
    "name": "dexpression",
    "sha256": "0a",
    "labels": list(ANSWER),
    "created": "2026-11-24",
    "readings": list(READINGS),
    "conditions": None,
    "results": {"people": {"seven": RESULT}, "labels": {"seven": RESULT}},
    "input": {"width": 48, "height": 48, "mode": "grey", "mean": 0.5, "std": 0.25},
    "network": {"evidence_side": 2},
    **{name: {} for name in ("versions", "data", "calibration")},
}
FACE = encode(draw_face("HAPPY", 0))
LANDMARKS = Landmarks(Point(9, 15), Point(21, 15), Point(15, 20), Point(10, 30), Point(20, 30))
LIMITS = Settings(max_upload_bytes=1_000_000, max_pixels=1_000_000)
PROBLEM_MEMBERS = {"type", "title", "status", "detail", "code", "error", "request_id"}


class StubPredictor:
    """A predictor with fixed answers, one for each reading, whose attributes a test may set.

    Their most probable label, SAD, is not among the five labels of POST /. It finds one face, or none without
    `has_face`, and raises `failure` if there is one. `seen` has every picture that it was called with.
    """

    failure: Exception | None = None
    has_face = True

    def __init__(self) -> None:
        self.seen: list[Picture] = []

    def predict(
        self,
        picture: Picture,
        detect: str = "auto",
        whole: bool = False,
        reading: ReadingName | None = None,
        explain: bool = False,
    ) -> Reading:
        if self.failure:
            raise self.failure
        self.seen.append(picture)
        name = reading or READINGS[0]
        evidence = {label: [[share, -share], [0.0, share]] for label, share in ANSWER.items()} if explain else None
        prediction = Prediction(LABELS_ANSWER if name == "labels" else ANSWER, evidence)
        size = picture.width, picture.height
        if not self.has_face and detect != "never":
            return Reading(*size, [], name, prediction if whole else None)
        detection_confidence = None if detect == "never" else 0.9
        landmarks = None if detect == "never" else LANDMARKS
        face = FaceReading(Box(1, 2, 30, 40), detection_confidence, prediction, Box(0, 4, 33, 37), landmarks)
        return Reading(*size, [face], name)

    def public_facts(self) -> dict[str, object]:
        return PUBLIC_FACTS


def assert_refused(response: TestResponse, status: int, code: str) -> None:
    """Check that a response is a problem document with this status and code, and reveals nothing of the code."""
    assert (response.status_code, response.content_type) == (status, "application/problem+json")
    problem = response.get_json(force=True)
    assert problem.keys() == PROBLEM_MEMBERS
    assert (problem["status"], problem["code"], problem["error"]) == (status, code, problem["detail"])
    assert problem["request_id"] == response.headers["X-Request-ID"]
    assert len(problem["detail"]) > 20
    assert not any(secret in response.text for secret in ("Traceback", ".py", "/site-packages", "werkzeug"))
