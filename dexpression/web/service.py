"""The state that all routes share: the predictor, which may be replaced while the server runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from PIL import Image

from dexpression.picture import Picture
from dexpression.reading import Detect, Reading


class Predicting(Protocol):
    """The interface of a predictor that the routes use; tests pass a stub."""

    def predict(self, picture: Image.Image | Picture, detect: Detect = "auto", whole: bool = False) -> Reading:
        """See `dexpression.prediction.Predictor.predict`."""
        ...

    def public_facts(self) -> dict[str, Any]:
        """See `dexpression.artifact.manifest.Manifest.public_facts`."""
        ...


@dataclass
class Service:
    """The current predictor, and whether the server is stopping. A request reads the predictor once."""

    predictor: Predicting
    stopping: bool = False
