"""The parameters of a request, from its query, its form fields and its JSON members.

The same models check requests and describe them in the OpenAPI document.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import ErrorDetails, PydanticCustomError

from dexpression.labels import UNKNOWN, ReadingName, label_sets, list_labels
from dexpression.reading import Detect
from dexpression.web.errors import BadParameter

MAX_ECHO = 60  # characters of the request that an error repeats

AnyParameters = TypeVar("AnyParameters", bound="Parameters")


class Parameters(BaseModel):
    """The parameters that all answers about pictures have, all optional."""

    model_config = ConfigDict(frozen=True)
    switches: ClassVar[tuple[str, ...]] = ()  # parameters that may be true or false of JSON

    labels: Literal["five", "seven"] | SkipJsonSchema[None] = Field(
        default_factory=lambda: None,
        description="The labels to choose from. five: ANGRY, DISGUST, FEAR, HAPPY, NEUTRAL; seven: these, SAD and "
        "SURPRISE. A model that lacks one of them refuses the request. By default all labels of the model, but five at "
        "POST / if the model has no labels of its own.",
    )
    reading: ReadingName | SkipJsonSchema[None] = Field(
        default_factory=lambda: None,
        description="people: what most people see in the face. labels: the labels of the training data. By default the "
        "first that the model has.",
    )
    detect: Detect = Field(
        "auto",
        description="auto: detect faces, but treat a picture of at most 64x64 pixels as one face. always: detect faces "
        "in any picture. never: treat the centred square of the picture as one face. thorough: do without the quick "
        "search that shows all faces of most pictures. tiles: detect faces in each part of a large picture by itself, "
        "which finds smaller ones and takes much longer.",
    )
    min_confidence: float = Field(
        0.0, ge=0, le=1, allow_inf_nan=False, description=f"The result is {UNKNOWN} if the confidence is lower."
    )

    @property
    def explains(self) -> bool:
        """Whether the answer has evidence."""
        return False

    @field_validator("*", mode="before")
    @classmethod
    def _require_text_or_number(cls, value: object, info: ValidationInfo) -> object:
        """Refuse null and true of JSON, which pydantic would take as no value and as 1, where they are no values."""
        if isinstance(value, bool) and info.field_name in cls.switches:
            return str(value).lower()
        if value is None or isinstance(value, bool):
            raise PydanticCustomError("text_or_number", "Input should be text or a number")
        return value


class FacesParameters(Parameters):
    """The parameters of an answer that has a place for each face, all optional."""

    switches = ("explain",)

    explain: Literal["false", "true", "all"] = Field(
        "false",
        description="true: give each face its evidence, which says where in the face something speaks for the answered "
        "label or against it. all: for each label. With the header Accept: image/png, the answer is the picture with "
        "the evidence laid over its faces, at most 1280 pixels a side.",
    )

    @property
    def explains(self) -> bool:
        """Whether the answer has evidence."""
        return self.explain != "false"


class LargestFaceParameters(Parameters):
    """The parameters of an answer about the largest face alone."""

    on_no_face: Literal["whole", "error"] = Field(
        "whole",
        description="If no face is found: treat the whole picture as one face, or answer with the error no_face.",
    )


class RootParameters(LargestFaceParameters, FacesParameters):
    """The parameters of POST /, all optional."""

    detail: Literal["label", "full"] = Field(
        "label",
        description="full: answer in the form of POST /v1/predict. If no face is found, result, confidence and "
        "probabilities are those of the whole picture, and faces is empty.",
    )


class JsonPicture(BaseModel):
    """The body of a JSON request; its other members are parameters."""

    image: str = Field(description="The file in base64, or a data URL as canvas.toDataURL() gives it.")


def read_parameters(
    model: type[AnyParameters], given: Mapping[str, Sequence[Any]], labels: Sequence[str], readings: Sequence[str]
) -> AnyParameters:
    """Check parameters, each with the values that the request gives it, for a model of these labels and readings.

    Raises BadParameter, which names the first bad parameter, its value and what is allowed.
    """
    repeated = [name for name, values in given.items() if len(values) > 1]
    if repeated:
        raise BadParameter(f"The parameter {repeated[0][:MAX_ECHO]} is given more than once. Give it once.")
    # Not by pydantic, which fails on a name that is no valid Unicode.
    if unknown := [name for name in given if name not in model.model_fields]:
        raise BadParameter(f"There is no parameter {unknown[0][:MAX_ECHO]}. Known: {', '.join(model.model_fields)}.")
    try:
        parameters = model.model_validate({name: value for name, [value] in given.items()})
    except ValidationError as error:
        raise BadParameter(_format_error(error.errors()[0])) from None
    if parameters.labels and parameters.labels not in label_sets(labels):
        raise BadParameter(
            f"The parameter labels is '{parameters.labels}'. This model knows only {list_labels(labels)}. Leave it out."
        )
    if parameters.reading and parameters.reading not in readings:
        raise BadParameter(
            f"The parameter reading is '{parameters.reading}'. This model was trained without FER+ votes. "
            f"It has only {', '.join(readings)}."
        )
    return parameters


def merge_parameters(*sources: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """All values of each parameter, from the query and from the body."""
    names = {name: None for source in sources for name in source}  # in the order in which they were given
    return {name: [value for source in sources for value in source.get(name, [])] for name in names}


def _format_error(error: ErrorDetails) -> str:
    return f"The parameter {error['loc'][0]} is {str(error['input'])[:MAX_ECHO]!r}. {error['msg']}."
