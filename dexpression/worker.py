"""One process that answers: HTTP in waitress, the app, and orders from the process that started it.

It reads nothing from disk and needs no torch: the model comes through the pipe, checked already.
"""

from __future__ import annotations

import logging
import signal
import socket
import sys
import threading
import time
from multiprocessing.connection import Connection

import waitress
from flask import Flask
from prometheus_client import Gauge
from waitress.channel import HTTPChannel
from waitress.task import ErrorTask, WSGITask

from dexpression.faces import FaceDetector
from dexpression.logs import start_logging
from dexpression.manifest import Model
from dexpression.prediction import Predictor
from dexpression.settings import Settings
from dexpression.web import create_app
from dexpression.web.metrics import MODEL
from dexpression.web.problems import CONTENT_TYPE, REQUEST_ID, http_problem, new_request_id
from dexpression.web.protection import ALWAYS
from dexpression.web.records import NO_ROUTE, record_request
from dexpression.web.service import Service

SPARE_THREADS = 4  # for /health and /metrics while all others wait for their turn
CONNECTIONS = 1_000  # held open at once
LINGER = 1.0  # seconds that a stop leaves idle connections open, so that who is about to ask is told to go elsewhere

logger = logging.getLogger(__name__)


def work(listener: socket.socket, orders: Connection, settings: Settings) -> None:
    """Answer with the first model that comes through `orders`, then with every next one; stop when it is closed."""
    start_logging(settings.log)
    detector = FaceDetector.load(settings.face_confidence, threads=1)
    try:
        service = Service(_predictor(orders.recv(), detector))
    except EOFError:  # there is no model
        return
    server = HttpServer(create_app(service, settings), listener, settings)
    signal.signal(signal.SIGTERM, lambda *_: server.stop())
    threading.Thread(target=_obey, args=(orders, service, detector, server), daemon=True).start()
    orders.send("ready")
    server.run(service)


def _obey(orders: Connection, service: Service, detector: FaceDetector, server: HttpServer) -> None:
    while True:
        try:
            predictor = _predictor(orders.recv(), detector)
        except (EOFError, OSError):
            break
        _count_model(service.predictor.card()["sha256"], 0)
        service.predictor = predictor
    server.stop()


def _predictor(model: Model, detector: FaceDetector) -> Predictor:
    predictor = Predictor.of_engine(*model, detector)
    _count_model(predictor.card()["sha256"], 1)
    return predictor


def _count_model(sha256: str, answers: int) -> None:
    gauge: Gauge = MODEL.labels(sha256)
    gauge.set(answers)


class HttpServer:
    """waitress on a socket that other processes share: whichever is free takes the next caller."""

    def __init__(self, app: Flask, listener: socket.socket, settings: Settings) -> None:
        self._server = waitress.create_server(
            app,
            sockets=[listener],
            threads=settings.threads + settings.queue + SPARE_THREADS,
            connection_limit=CONNECTIONS,
            asyncore_use_poll=sys.platform != "win32",  # select takes no file number above 1,023
            ident="dexpression",
            # What is somewhat too large is read to its end, so that a client that still sends gets the answer.
            max_request_body_size=2 * settings.max_upload_bytes,
            inbuf_overflow=sys.maxsize,  # above it waitress would write the upload to disk
        )
        self._server.channel_class = ProblemChannel
        self._server.stopping = False
        self._server.origins = settings.origins.split()
        self._seconds = settings.stop_seconds
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # it warns of every request that waits

    def run(self, service: Service) -> None:
        """Until `stop`; then answer what was begun, for as long as the settings say."""
        while not self._server.stopping:
            self._poll(1.0)
        service.stopping = True
        self._stop_listening()
        began = time.monotonic()
        while self._server.active_channels and (waited := time.monotonic() - began) < self._seconds:
            if waited > LINGER:
                self._close_idle()
            self._poll(0.05)

    def stop(self) -> None:
        """From any thread, or a signal."""
        self._server.stopping = True
        self._server.pull_trigger()

    def _poll(self, seconds: float) -> None:
        server = self._server
        server.asyncore.loop(timeout=seconds, map=server._map, use_poll=server.adj.asyncore_use_poll, count=1)

    def _stop_listening(self) -> None:
        callers = -1
        while callers != len(self._server.active_channels):  # who has called already is not turned away
            callers = len(self._server.active_channels)
            self._server.handle_accept()
        self._server.del_channel()
        self._server.socket.close()

    def _close_idle(self) -> None:
        for channel in list(self._server.active_channels.values()):
            if not (channel.requests or channel.request or channel.total_outbufs_len):
                channel.will_close = True


class ClosingTask(WSGITask):
    """While the server stops, every answer is the last one on its connection."""

    def build_response_header(self) -> bytes:
        if self.channel.server.stopping and not self.close_on_finish:
            self.set_close_on_finish()
        header: bytes = super().build_response_header()
        return header


class ProblemTask(ErrorTask):
    """What waitress itself refuses (no HTTP, too large) leaves in our one shape too."""

    def execute(self) -> None:
        error = self.request.error
        request_id = new_request_id()
        record_request(NO_ROUTE, "other", error.code, 0.0, request_id)
        body = http_problem(error.code, error.reason, error.body, request_id)
        self.status = f"{error.code} {error.reason}"
        self.response_headers += [("Content-Type", CONTENT_TYPE), (REQUEST_ID, request_id), *ALWAYS.items()]
        if "*" in self.channel.server.origins:
            self.response_headers.append(("Access-Control-Allow-Origin", "*"))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class ProblemChannel(HTTPChannel):
    task_class = ClosingTask
    error_task_class = ProblemTask
