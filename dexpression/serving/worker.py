"""A worker: one process that serves the Flask application, and receives its models from the supervisor.

A worker reads no file of an export and imports no torch: verified models arrive through its control pipe.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
import warnings
from multiprocessing.connection import Connection

from dexpression.errors import StartError
from dexpression.faces import FaceDetector
from dexpression.logs import start_logging
from dexpression.prediction import Predictor
from dexpression.serving.http_server import HttpServer
from dexpression.serving.shared_counters import SharedCounters
from dexpression.settings import Settings
from dexpression.web import create_app
from dexpression.web.metrics import MODEL
from dexpression.web.service import Service

logger = logging.getLogger(__name__)


def run_worker(
    listener: socket.socket, control_pipe: Connection, settings: Settings, counters: SharedCounters, number: int
) -> None:
    """Serve requests with the newest model received through `control_pipe`; stop when the pipe is closed.

    Sends "ready", or the StartError that says why not, and "overdue" when it should be replaced. Receives models,
    "withdraw" to report that it is not ready until the next model, and "leave" before the pipe is closed if other
    workers go on. `number` is the index of this worker in `counters`.
    """
    start_logging(settings.log, settings.log_level)
    warnings.simplefilter("ignore")  # Pillow warns of each damaged entry of a picture
    detector = FaceDetector.load(settings.face_confidence, threads=1)
    try:
        service = Service(Predictor.from_onnx_model(control_pipe.recv(), detector))
    except EOFError:  # the supervisor has no model
        return
    _set_model_gauge(service, 1)
    app = create_app(service, settings)
    try:
        server = HttpServer(app, listener, settings, counters, number, lambda: _send_overdue(control_pipe))
    except StartError as error:
        with contextlib.suppress(OSError):  # the supervisor ends already, because another worker cannot start
            control_pipe.send(error)
        return
    signal.signal(signal.SIGTERM, lambda *_: server.stop())
    threading.Thread(target=_receive_models, args=(control_pipe, service, detector, server), daemon=True).start()
    control_pipe.send("ready")
    server.run(service)
    if server.has_busy_threads:
        logging.shutdown()
        os._exit(0)  # the usual exit would free the models that these threads use


def _send_overdue(control_pipe: Connection) -> None:
    with contextlib.suppress(OSError):  # the supervisor stops this worker anyway
        control_pipe.send("overdue")


def _receive_models(control_pipe: Connection, service: Service, detector: FaceDetector, server: HttpServer) -> None:
    others_serve = False
    while True:
        try:
            received = control_pipe.recv()
            if received == "leave":
                others_serve = True
                continue
            if received == "withdraw":
                service.withdrawn = True
                continue
            predictor = Predictor.from_onnx_model(received, detector)
        except (EOFError, OSError):  # the supervisor stops this worker, or has died
            break
        except Exception:
            logger.exception("This worker cannot load the new model.")
            continue
        _set_model_gauge(service, 0)
        service.predictor, service.withdrawn = predictor, False
        _set_model_gauge(service, 1)
    server.stop(others_serve)


def _set_model_gauge(service: Service, value: int) -> None:
    MODEL.labels(service.predictor.public_facts()["sha256"]).set(value)
