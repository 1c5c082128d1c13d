"""The bodies of answers, as pydantic models: the OpenAPI document describes them, and tests check real answers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from dexpression.labels import ReadingName

Share = Annotated[float, Field(ge=0, le=1)]


class Answer(BaseModel):
    """The base of all answers; it allows no unknown members."""

    model_config = ConfigDict(extra="forbid")


class LabelAnswer(Answer):
    """The one label of POST /."""

    result: str


class BoxAnswer(Answer):
    """A box in pixels of the upright picture, from its top left corner."""

    x: int = Field(ge=0)
    y: int = Field(ge=0)
    width: int = Field(ge=0)
    height: int = Field(ge=0)


class PointAnswer(Answer):
    """A place in pixels of the upright picture, from its top left corner; it may lie outside."""

    x: float
    y: float


class LandmarksAnswer(Answer):
    """Five points of a face. Right and left are the person's own: the right eye is mostly left in the picture."""

    right_eye: PointAnswer
    left_eye: PointAnswer
    nose: PointAnswer = Field(description="The tip of the nose.")
    mouth_right: PointAnswer = Field(description="The corner of the mouth on the person's right side.")
    mouth_left: PointAnswer = Field(description="The corner of the mouth on the person's left side.")


class EvidenceAnswer(Answer):
    """What speaks for a label and against it, by place."""

    box: BoxAnswer = Field(description="The square around the face that the maps cover.")
    maps: dict[str, list[list[float]]] = Field(
        description="By label, rows from the top, each from the left. Above 0, the place speaks for the label, below 0 "
        "against it. With explain=all, the softmax of the means of the maps is the probabilities."
    )


class FaceAnswer(LabelAnswer):
    """One face of a picture."""

    box: BoxAnswer
    detection_confidence: Share | None = Field(description="null: the picture was treated as one face.")
    landmarks: LandmarksAnswer | None = Field(description="null: the picture was treated as one face.")
    roll: float | None = Field(
        ge=-180,
        le=180,
        description="How far the face is turned in the picture, in degrees: 0 if the eyes are level, positive if "
        "turned clockwise. Of turned faces, it is too small. null: the picture was treated as one face.",
    )
    confidence: Share
    probabilities: dict[str, float] = Field(description="The probability of each label; they sum to 1.")
    evidence: EvidenceAnswer | SkipJsonSchema[None] = Field(
        default_factory=lambda: None, description="Only with explain=true or all."
    )


class ImageAnswer(Answer):
    """The size of the upright picture in pixels."""

    width: int = Field(ge=1)
    height: int = Field(ge=1)


class ModelName(Answer):
    """The name and the digest of the model."""

    name: Literal["dexpression"]
    sha256: str = Field(description="The SHA-256 of the exported learner.")


class ReadingAnswer(Answer):
    """Every face, and result, confidence and probabilities of the largest one.

    Without a face, result, confidence and probabilities are null or, at POST /, those of the whole picture.
    """

    result: str | None
    confidence: Share | None
    probabilities: dict[str, float] | None
    reading: ReadingName = Field(
        description="people: what most people see in the face. labels: the labels of the training data."
    )
    faces: list[FaceAnswer] = Field(description="Largest first, at most 64; for detect=tiles, 512.")
    image: ImageAnswer
    model: ModelName
    request_id: str


class ProblemAnswer(Answer):
    """A problem document (RFC 9457). `code` is stable. `detail`, and `error` with the same text, say how to fix it."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    error: str
    request_id: str


class LabelAnswers(Answer):
    """One answer or problem for each of several pictures, in their order."""

    results: list[LabelAnswer | ReadingAnswer | ProblemAnswer]


class ReadingAnswers(Answer):
    """One answer or problem for each of several pictures, in their order."""

    results: list[ReadingAnswer | ProblemAnswer]


class ResultAnswer(Answer):
    """Scores 0..1 on the `n` faces of a split."""

    split: str
    n: int
    accuracy: Share
    balanced_accuracy: Share
    ece: Share
    recall: dict[str, float | None]


class ShareAnswer(Answer):
    """A share of `n` faces, with its 95 % interval."""

    n: int
    share: Share
    lower: Share
    upper: Share


class ConditionsAnswer(Answer):
    """The accuracy of a reading on the same faces as they are, and blurred, small, dark and so on."""

    reading: ReadingName
    clean: ShareAnswer
    conditions: dict[str, ShareAnswer]
    found: dict[str, Share] = Field(description="The share of faces that are found.")
    mean: Share = Field(description="The mean accuracy over the conditions.")
    flips: ShareAnswer = Field(description="Faces whose answer changes with their brightness, 0.3 to 1.7 in 20 steps.")


class InputAnswer(Answer):
    """The network's input: size in pixels, and mean and standard deviation that normalise pixels in 0..1."""

    width: int
    height: int
    mode: Literal["grey"]
    mean: float
    std: float


class ModelAnswer(ModelName):
    """The facts about the model."""

    labels: list[str]
    input: InputAnswer
    created: str
    versions: dict[str, str]
    network: dict[str, Any]
    data: dict[str, Any]
    readings: list[ReadingName] = Field(description="The first one answers unless the request chooses.")
    calibration: dict[str, dict[str, Any]]
    results: dict[str, dict[str, ResultAnswer]] = Field(
        description="By reading, and by label set: five, seven, eight, or own for all labels of a model of its own."
    )
    conditions: ConditionsAnswer | None = Field(description="null for a model that was not scored under conditions.")


class HealthAnswer(Answer):
    """Whether the server is alive, or ready to predict."""

    status: Literal["live", "ready"]
