"""What a request may say besides its picture: checked by these models, of which the OpenAPI document is made too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeVar

from flask import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import ErrorDetails

from dexpression.errors import BadParameter
from dexpression.labels import LABEL_SETS
from dexpression.reading import UNKNOWN, Detect

LONGEST_ECHO = 60  # letters of what was sent that an error repeats

Checked = TypeVar("Checked", bound="Parameters")


class Parameters(BaseModel):
    """Of the query; every one may be left out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    labels: Literal["five", "seven"] | SkipJsonSchema[None] = Field(
        default_factory=lambda: None,
        description="Which emotions to choose among: ANGRY, DISGUST, FEAR, HAPPY, NEUTRAL, and with seven SAD and "
        "SURPRISE. Left out: five at POST /, all that the model knows at POST /v1/predict.",
    )
    detect: Detect = Field(
        "auto",
        description="auto: find the faces, but take a picture of at most 64x64 pixels as one. always: find them in "
        "any picture. never: the picture is one face, its middle square.",
    )
    min_confidence: float = Field(
        0.0, ge=0, le=1, allow_inf_nan=False, description=f"The result is {UNKNOWN} where the confidence is lower."
    )


class RootParameters(Parameters):
    detail: Literal["label", "full"] = Field(
        "label",
        description="full: answer in the form of POST /v1/predict. Where no face is found, result, confidence and "
        "probabilities are the whole picture's, and faces is empty.",
    )
    on_no_face: Literal["whole", "error"] = Field(
        "whole", description="Where no face is found: take the whole picture as one, or answer with no_face."
    )


class JsonPicture(BaseModel):
    image: str = Field(description="The file in base64, or a data URL as canvas.toDataURL() gives it.")


def read_parameters(model: type[Checked], request: Request, known: Sequence[str]) -> Checked:
    """The query, checked, for a model that knows these labels.

    BadParameter names the first parameter that cannot be used, its value and what is allowed.
    """
    given = request.args.to_dict(flat=False)
    repeated = [name for name, values in given.items() if len(values) > 1]
    if repeated:
        raise BadParameter(f"The parameter {repeated[0][:LONGEST_ECHO]} is given more than once. Give it once.")
    try:
        parameters = model.model_validate({name: value for name, [value] in given.items()})
    except ValidationError as error:
        raise BadParameter(_spell(error.errors()[0], list(model.model_fields))) from None
    if parameters.labels and not set(LABEL_SETS[parameters.labels]) <= set(known):
        raise BadParameter(f"The parameter labels is '{parameters.labels}'. This model knows {', '.join(known)} alone.")
    return parameters


def _spell(error: ErrorDetails, names: Sequence[str]) -> str:
    name, value = str(error["loc"][0])[:LONGEST_ECHO], str(error["input"])[:LONGEST_ECHO]
    if error["type"] == "extra_forbidden":
        return f"There is no parameter {name}. Known: {', '.join(names)}."
    return f"The parameter {name} is {value!r}. {error['msg']}."
