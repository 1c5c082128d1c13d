"""What the routes that predict have in common: the parameters and the pictures of a request, and the labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flask import g, request

from dexpression.errors import NoEvidence
from dexpression.kinds import is_film
from dexpression.labels import LABEL_SETS
from dexpression.picture import Picture, PixelBudget, load_picture
from dexpression.reading import Detect, Reading, min_short_side
from dexpression.settings import Settings
from dexpression.web.errors import BadParameter, FilmUploaded, NoFace
from dexpression.web.metrics import count_reading
from dexpression.web.parameters import (
    AnyParameters,
    LargestFaceParameters,
    Parameters,
    merge_parameters,
    read_parameters,
)
from dexpression.web.service import MAY_TAKE_LONG, Postponed


def read_request_parameters(
    model: type[AnyParameters], options: Mapping[str, Sequence[Any]], settings: Settings
) -> AnyParameters:
    """The parameters in the query and in the body; without a reading, the one of the settings if there is one."""
    given = merge_parameters(request.args.to_dict(flat=False), options)
    parameters = read_parameters(model, given, g.facts["labels"], g.facts["readings"])
    if parameters.explains and "evidence_side" not in g.facts["network"]:
        raise BadParameter(f"The parameter explain cannot be used here. {NoEvidence()}")
    return parameters if parameters.reading else parameters.model_copy(update={"reading": settings.reading})


class PictureLoader:
    """Decodes the pictures of the current request.

    They share `max_pixels`, because a few bytes can hold many pixels, and damaged ones count too. Raises Postponed if
    decoding them, or detecting faces in them, takes long and the server wants to know.
    """

    def __init__(self, detect: Detect, max_pixels: int, takes_long: bool = False) -> None:
        """`takes_long`: so does what follows."""
        may_take_long = request.environ.get(MAY_TAKE_LONG, True)
        if (detect == "tiles" or takes_long) and not may_take_long:
            raise Postponed
        self._budget = PixelBudget(max_pixels, None if may_take_long else _postpone)
        self._min_short_side = min_short_side(detect)

    def load(self, content: bytes) -> Picture:
        """Decode a picture; raises PictureError or, for a film, FilmUploaded."""
        if is_film(content):
            raise FilmUploaded
        return load_picture(content, self._budget, self._min_short_side)


def predict_largest_face(picture: Picture, parameters: LargestFaceParameters) -> Reading:
    """The reading of a picture, which has a prediction: of the largest face, or else of the whole picture.

    Raises NoFace instead if the parameters ask for it.
    """
    whole = parameters.on_no_face == "whole"
    reading = g.predictor.predict(picture, parameters.detect, whole, parameters.reading, parameters.explains)
    if reading.prediction is None:
        raise NoFace("No face was found. Send a face that is seen from the front, upright and not too small.")
    return choose_labels(reading, parameters)


def choose_labels(reading: Reading, parameters: Parameters) -> Reading:
    """The reading among the labels of the parameters; counts its predictions in the metrics."""
    chosen = reading.among(LABEL_SETS[parameters.labels]) if parameters.labels else reading
    count_reading(chosen)
    return chosen


def _postpone() -> None:
    raise Postponed
