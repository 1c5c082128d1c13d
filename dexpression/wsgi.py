"""The application for other WSGI servers: `gunicorn dexpression.wsgi:app`; settings are DEXPRESSION_* variables.

The settings that only our own server needs, such as the port, the queue or the log, have no effect. Behind a proxy,
DEXPRESSION_HOSTS needs the public names. What our server adds is missing too, unless the WSGI server or a proxy gives
it: a bounded queue and a longest wait in it, a longest time for a request, protection from slow senders and idle
connections, a stop that loses no request, the comparison of the model's answers with those that were recorded, and a
new model that replaces the old one without a restart, and only if it is sound.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import Any

from PIL import Image

from dexpression.faces import FaceDetector
from dexpression.labels import ReadingName
from dexpression.picture import Picture
from dexpression.prediction import Predictor
from dexpression.reading import Detect, Reading
from dexpression.settings import Settings, require_choices
from dexpression.web import create_app
from dexpression.web.errors import NotReady
from dexpression.web.metrics import MODEL
from dexpression.web.service import Service

RETRY_SECONDS = 5.0  # after a failure to load the model; a shorter time would fill the log

logger = logging.getLogger(__name__)


class LazyPredictor:
    """A predictor that loads the ONNX model at its first use: once per process, after a preloading server has forked.

    Any number of threads may call it at once; each call uses one thread. If the model cannot be loaded, one line in
    the log says why, each call raises NotReady, and a call after `RETRY_SECONDS` tries again.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._predictor: Predictor | None = None
        self._loading = threading.Lock()
        self._next_try = 0.0  # of time.monotonic()

    def predict(
        self,
        picture: Image.Image | Picture,
        detect: Detect = "auto",
        whole: bool = False,
        reading: ReadingName | None = None,
        explain: bool = False,
    ) -> Reading:
        """See `dexpression.prediction.Predictor.predict`; raises NotReady too."""
        return self._loaded().predict(picture, detect, whole, reading, explain)

    def public_facts(self) -> dict[str, Any]:
        """See `dexpression.artifact.manifest.Manifest.public_facts`; raises NotReady."""
        return self._loaded().public_facts()

    def _loaded(self) -> Predictor:
        if self._predictor is None:
            with self._loading:  # the threads of the first requests wait for one of them
                if self._predictor is None:
                    self._predictor = self._load()
        return self._predictor

    def _load(self) -> Predictor:
        if time.monotonic() >= self._next_try:
            try:
                return _load_predictor(self._settings)
            except Exception as error:
                logger.error("The model cannot be loaded (%s). %s", type(error).__name__, error)
                self._next_try = time.monotonic() + RETRY_SECONDS
        raise NotReady("The server has no model. Its log has the reason.")


def _load_predictor(settings: Settings) -> Predictor:
    """Load the ONNX model and the face detector; raises ArtifactError, UnknownLabels or UnknownReading.

    Imports no torch.
    """
    from dexpression.artifact.manifest import load_onnx_model

    detector = FaceDetector.load(settings.face_confidence, threads=1)
    predictor = Predictor.from_onnx_model(load_onnx_model(settings.model_path), detector)
    require_choices(predictor.manifest.labels, predictor.manifest.readings, settings)
    MODEL.labels(predictor.manifest.sha256).set(1)
    return predictor


settings = Settings.from_env(os.environ)
app = create_app(Service(LazyPredictor(settings)), settings)
