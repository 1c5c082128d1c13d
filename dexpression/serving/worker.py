"""One process that answers: the app in an HTTP server, and orders from the process that started it.

It reads nothing from disk and needs no torch: the model comes through the pipe, checked already.
"""

from __future__ import annotations

import logging
import signal
import socket
import threading
from collections.abc import MutableSequence
from multiprocessing.connection import Connection

from prometheus_client import Gauge

from dexpression.artifact.manifest import Model
from dexpression.faces import FaceDetector
from dexpression.logs import start_logging
from dexpression.prediction import Predictor
from dexpression.serving.http_server import HttpServer
from dexpression.settings import Settings
from dexpression.web import create_app
from dexpression.web.metrics import MODEL
from dexpression.web.service import Service

logger = logging.getLogger(__name__)


def work(
    listener: socket.socket, orders: Connection, settings: Settings, loads: MutableSequence[int], number: int
) -> None:
    """Answer with the first model that comes through `orders`, then with every next one; stop when it is closed.

    `loads` lies in memory that all workers share: how many callers each has; `number` is this one's place in it.
    """
    start_logging(settings.log)
    detector = FaceDetector.load(settings.face_confidence, threads=1)
    try:
        service = Service(_predictor(orders.recv(), detector))
    except EOFError:  # there is no model
        return
    _count_model(service, 1)
    server = HttpServer(create_app(service, settings), listener, settings, loads, number)
    signal.signal(signal.SIGTERM, lambda *_: server.stop())
    threading.Thread(target=_obey, args=(orders, service, detector, server), daemon=True).start()
    orders.send("ready")
    server.run(service)


def _obey(orders: Connection, service: Service, detector: FaceDetector, server: HttpServer) -> None:
    while True:
        try:
            predictor = _predictor(orders.recv(), detector)
        except (EOFError, OSError):  # the process that started this one is gone, or wants it gone
            break
        except Exception:
            logger.exception("The new model cannot be used here.")
            continue
        _count_model(service, 0)
        service.predictor = predictor
        _count_model(service, 1)
    server.stop()


def _predictor(model: Model, detector: FaceDetector) -> Predictor:
    return Predictor.of_engine(*model, detector)


def _count_model(service: Service, answers: int) -> None:
    gauge: Gauge = MODEL.labels(service.predictor.card()["sha256"])
    gauge.set(answers)
