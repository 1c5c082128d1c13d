"""Predictor -> app -> port, on a WSGI server that runs on Linux, macOS and Windows."""

from __future__ import annotations

import logging
import signal
import socket
import sys
from types import FrameType

import waitress
from flask import Flask
from waitress.channel import HTTPChannel
from waitress.task import ErrorTask

from dexpression.errors import SettingError
from dexpression.prediction import Predictor
from dexpression.settings import Settings
from dexpression.web import create_app
from dexpression.web.problems import CONTENT_TYPE, REQUEST_ID, http_problem, new_request_id

logger = logging.getLogger(__name__)


def serve(settings: Settings) -> None:
    """Answer until SIGINT or SIGTERM; raises DeXpressionError when the start cannot work."""
    app = create_app(Predictor.load(settings.model_path), settings)
    server = listen(app, settings)
    for number in (signal.SIGTERM, signal.SIGINT):  # SIGINT too: a shell has background jobs ignore it
        signal.signal(number, _stop)
    logger.info("DeXpression answers on http://%s:%d (Ctrl-C stops it)", settings.host, settings.port)
    server.run()  # returns on SystemExit and KeyboardInterrupt; requests in hand have five seconds
    logger.info("Stopped.")


class ProblemTask(ErrorTask):
    """What waitress itself refuses (no HTTP, too large) leaves in our one shape too."""

    def execute(self) -> None:
        error = self.request.error
        request_id = new_request_id()
        body = http_problem(error.code, error.reason, error.body, request_id)
        self.status = f"{error.code} {error.reason}"
        self.response_headers += [
            ("Content-Type", CONTENT_TYPE),
            (REQUEST_ID, request_id),
            ("Access-Control-Allow-Origin", "*"),
        ]
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class ProblemChannel(HTTPChannel):
    error_task_class = ProblemTask


def listen(app: Flask, settings: Settings) -> waitress.server.TcpWSGIServer:
    """A server that has the port and waits for `run`; SettingError when the port cannot be had."""
    server = waitress.create_server(
        app,
        sockets=[_bound_socket(settings.host, settings.port)],
        threads=settings.threads,
        ident="dexpression",
        # What is somewhat too large is read to its end, so that a client that still sends gets the answer and no reset.
        max_request_body_size=2 * settings.max_upload_bytes,
        inbuf_overflow=sys.maxsize,  # above it waitress would write the upload to disk
    )
    server.channel_class = ProblemChannel
    return server


def _bound_socket(host: str, port: int) -> socket.socket:
    """One socket of the host's first address: waitress by itself would not notice on Windows that a port is taken."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SettingError(
            f"Cannot listen on {host}:{port} ({reason}). "
            "Stop what uses it, or choose another with DEXPRESSION_HOST and DEXPRESSION_PORT."
        ) from error


def _stop(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(0)
