"""What answers hold: the models that the OpenAPI document is made of, and that tests hold real answers against."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from dexpression.labels import EIGHT
from dexpression.reading import UNKNOWN

Share = Annotated[float, Field(ge=0, le=1)]


class Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class LabelAnswer(Answer):
    result: str = Field(json_schema_extra={"enum": [*EIGHT, UNKNOWN]})


class BoxAnswer(Answer):
    """In pixels of the upright picture, from its top left corner."""

    x: int = Field(ge=0)
    y: int = Field(ge=0)
    width: int = Field(ge=0)
    height: int = Field(ge=0)


class FaceAnswer(LabelAnswer):
    box: BoxAnswer
    detection_confidence: Share | None = Field(description="null: the picture was taken as one face.")
    confidence: Share
    probabilities: dict[str, float] = Field(description="Of every label, summing to 1.")


class ImageAnswer(Answer):
    """The upright picture, in pixels."""

    width: int = Field(ge=1)
    height: int = Field(ge=1)


class ModelName(Answer):
    name: Literal["dexpression"]
    sha256: str = Field(description="Of the exported learner.")


class ReadingAnswer(Answer):
    """The largest face's result, confidence and probabilities, and every face.

    Without a face those three are null or, at POST /, the whole picture's.
    """

    result: str | None = Field(json_schema_extra={"enum": [*EIGHT, UNKNOWN, None]})
    confidence: Share | None
    probabilities: dict[str, float] | None
    faces: list[FaceAnswer] = Field(description="Largest first, at most 64.")
    image: ImageAnswer
    model: ModelName
    request_id: str


class ProblemAnswer(Answer):
    """RFC 9457. `code` is stable; `detail`, and `error`, which is the same, say how to mend the request."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    error: str
    request_id: str


class LabelAnswers(Answer):
    """For several parts: an answer or a problem each, in their order."""

    results: list[LabelAnswer | ReadingAnswer | ProblemAnswer]


class ReadingAnswers(Answer):
    """For several parts: an answer or a problem each, in their order."""

    results: list[ReadingAnswer | ProblemAnswer]


class ResultAnswer(Answer):
    """Scores 0..1 on `n` faces of a split."""

    split: str
    n: int
    accuracy: Share
    balanced_accuracy: Share
    ece: Share
    recall: dict[str, float | None]


class InputAnswer(Answer):
    """What the network sees: size in pixels, mean and deviation that pixels in 0..1 are normalised by."""

    width: int
    height: int
    mode: Literal["grey"]
    mean: float
    std: float


class ModelAnswer(ModelName):
    labels: list[str]
    input: InputAnswer
    created: str
    versions: dict[str, str]
    network: dict[str, Any]
    data: dict[str, Any]
    calibration: dict[str, Any]
    results: dict[str, ResultAnswer]


class HealthAnswer(Answer):
    status: Literal["live", "ready"]
