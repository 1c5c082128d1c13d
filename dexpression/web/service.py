"""The state that all routes share: the predictor, which may be replaced while the server runs."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any, Protocol

from PIL import Image

from dexpression.labels import ReadingName
from dexpression.picture import Picture
from dexpression.reading import Detect, Reading
from dexpression.web.errors import NotReady


class Postponed(BaseException):
    """A request turned out to take long, and the server that has called the app wants to begin it again later.

    It is no Exception, so that nothing answers it on its way to that server.
    """


class Predicting(Protocol):
    """The interface of a predictor that the routes use; tests pass a stub."""

    def predict(
        self,
        picture: Image.Image | Picture,
        detect: Detect = "auto",
        whole: bool = False,
        reading: ReadingName | None = None,
        explain: bool = False,
    ) -> Reading:
        """See `dexpression.prediction.Predictor.predict`."""
        ...

    def public_facts(self) -> dict[str, Any]:
        """See `dexpression.artifact.manifest.Manifest.public_facts`."""
        ...


MAY_TAKE_LONG = "dexpression.may_take_long"  # in the WSGI environment; if it is False, the app may raise Postponed
CHECK_SECONDS = 1.0  # for which the answer of `can_predict` holds

logger = logging.getLogger(__name__)


@dataclass
class Service:
    """The current predictor, and the state of the server. A request reads the predictor once."""

    predictor: Predicting
    stopping: bool = False
    withdrawn: bool = False  # its model turned out to differ from its learner
    _can_predict: bool = True
    _checked: tuple[Predicting | None, float] = (None, 0.0)  # the predictor, and until when the last check holds

    def require_ready(self) -> None:
        """Raise NotReady, with the reason, if the server cannot answer now, or will not soon."""
        if self.stopping:
            raise NotReady("The server is stopping. Call another one, or this one after its next start.")
        if self.withdrawn:
            raise NotReady("The model does not answer as its learner does. The log of the server has the details.")
        if not self.can_predict():
            raise NotReady("The server cannot predict. Its log has the reason.")

    def can_predict(self) -> bool:
        """Whether a prediction succeeds; it is tried at most once a second, because anybody may ask."""
        checked, until = self._checked
        if checked is not self.predictor or time.monotonic() >= until:
            self._can_predict = self._try_to_predict()
            self._checked = self.predictor, time.monotonic() + CHECK_SECONDS
        return self._can_predict

    def _try_to_predict(self) -> bool:
        try:
            # Through the detector and the network: what fails here would fail every request.
            self.predictor.predict(Image.new("L", (48, 48)), "always", whole=True)
        except Exception:
            if self._can_predict:  # one line, not one per question
                logger.exception("A trial prediction failed.")
            return False
        return True
