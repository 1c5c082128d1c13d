"""What the routes answer from: a predictor that can be changed while they do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from PIL import Image

from dexpression.picture import Picture
from dexpression.reading import Detect, Reading


class Predicting(Protocol):
    """What the routes need of a predictor; tests give a stub."""

    def predict(self, picture: Image.Image | Picture, detect: Detect = "auto", whole: bool = False) -> Reading: ...

    def card(self) -> dict[str, Any]: ...


@dataclass
class Service:
    """A request takes the predictor once, so that none is answered by two."""

    predictor: Predicting
    stopping: bool = False
