"""DeXpression: send a picture, get back the emotion on each face, from a small network that you can retrain.

from dexpression import Predictor
Predictor.load("model").predict("photo.jpg").emotion
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dexpression.prediction import Predictor

# onnxruntime would send its maker what runs where, and keep that on disk; it reads this once, when it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = ["Predictor"]


def __getattr__(name: str) -> Any:  # torch and fastai take seconds, and most modules of the package need neither
    if name == "Predictor":
        from dexpression.prediction import Predictor

        return Predictor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
