"""DeXpression: send a picture, get back the emotion on each face, from a small network that you can retrain.

from dexpression import Predictor
Predictor.load("model").predict("photo.jpg").emotion
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dexpression.prediction import Predictor

__all__ = ["Predictor"]


def __getattr__(name: str) -> Any:  # torch and fastai take seconds, and most modules of the package need neither
    if name == "Predictor":
        from dexpression.prediction import Predictor

        return Predictor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
