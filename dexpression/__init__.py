"""DeXpression reads the emotion on each face of a picture, with a small network that you can retrain.

from dexpression import Predictor
Predictor.load().predict("photo.jpg").emotion
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dexpression.prediction import Predictor

__version__ = "0.1.0"

# Otherwise onnxruntime sends usage data to its maker and stores it on disk. It reads this variable when it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = ["Predictor"]


def __getattr__(name: str) -> Any:  # most modules of the package need neither onnxruntime nor Pillow
    if name == "Predictor":
        from dexpression.prediction import Predictor

        return Predictor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
