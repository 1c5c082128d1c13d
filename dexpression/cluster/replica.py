"""A replica on Ray Serve: the Flask app, one model and one thread, in a process of its own. It imports no Ray."""

from __future__ import annotations

import asyncio
import warnings
from concurrent.futures import ThreadPoolExecutor

from a2wsgi import WSGIMiddleware
from a2wsgi.wsgi_typing import WSGIApp

from dexpression.artifact.manifest import OnnxModel
from dexpression.cluster.bodies import App, Message, Receive, Send, WholeBodies
from dexpression.faces import FaceDetector
from dexpression.logs import start_logging
from dexpression.prediction import Predictor
from dexpression.settings import Settings
from dexpression.web import create_app
from dexpression.web.metrics import MODEL
from dexpression.web.problems import REQUEST_ID
from dexpression.web.service import Service

# Others wait in Ray's proxies, for whichever replica is free first. More than the one that the thread answers, or the
# thread would wait for each next one, and a slow upload would keep the replica from all others.
REQUESTS_AT_ONCE = 8


class Replica:
    """What Ray Serve makes in each process, asks for an ASGI app, and checks from time to time."""

    def __init__(self, settings: Settings, model: OnnxModel) -> None:
        """`model` has been verified."""
        start_logging(settings.log, settings.log_level)
        warnings.simplefilter("ignore")  # Pillow warns of each damaged entry of a picture
        detector = FaceDetector.load(settings.face_confidence, threads=1)
        self._service = Service(Predictor.from_onnx_model(model, detector))
        MODEL.labels(model.manifest.sha256).set(1)
        self._settings = settings
        # No limit of messages that wait to be sent, or the one thread would wait for ever for a client that has gone.
        app: WSGIApp = create_app(self._service, settings)  # type: ignore[assignment] # types that differ in name alone
        self._app = WSGIMiddleware(app, workers=1, send_queue_size=0)

    def __serve_build_asgi_app__(self) -> App:
        return WholeBodies(_without_request_id(self._app), self._settings.max_upload_bytes)

    async def check_health(self) -> None:
        """Raise RuntimeError if the replica cannot predict; waits for the thread, so that one that hangs is found."""
        thread: ThreadPoolExecutor = self._app.executor
        if not await asyncio.get_running_loop().run_in_executor(thread, self._service.can_predict):
            raise RuntimeError("This replica cannot predict. Its log has the reason.")


def _without_request_id(app: WSGIMiddleware) -> App:
    """The app without the header X-Request-ID of its answers, because Ray's proxy adds the same one."""

    async def answer(scope: Message, receive: Receive, send: Send) -> None:
        async def send_others(message: Message) -> None:
            if "headers" in message:
                message["headers"] = [one for one in message["headers"] if one[0] != REQUEST_ID.lower().encode()]
            await send(message)

        await app(scope, receive, send_others)  # type: ignore[arg-type]

    return answer
