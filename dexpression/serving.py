"""Settings -> predictor -> app -> port, on a WSGI server that runs on Linux, macOS and Windows."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Mapping
from types import FrameType

import waitress
from flask import Flask
from waitress.channel import HTTPChannel
from waitress.task import ErrorTask

from dexpression.errors import SettingError
from dexpression.prediction import Predictor
from dexpression.settings import Settings
from dexpression.web import create_app
from dexpression.web.problems import CONTENT_TYPE, new_request_id, problem_body

logger = logging.getLogger(__name__)


def serve(environ: Mapping[str, str]) -> None:
    """Answer until SIGINT or SIGTERM; raises DeXpressionError when the start cannot work."""
    settings = Settings.from_env(environ)
    app = create_app(Predictor.load(settings.model_path), settings)
    server = listen(app, settings)
    signal.signal(signal.SIGTERM, _stop)
    logger.info("DeXpression answers on http://%s:%d (Ctrl-C stops it)", settings.host, settings.port)
    server.run()  # returns on SystemExit and KeyboardInterrupt, once the requests in hand are answered
    logger.info("Stopped.")


class ProblemTask(ErrorTask):
    """What waitress itself refuses (no HTTP, too large) leaves in our one shape too."""

    def execute(self) -> None:
        error = self.request.error
        code = "payload_too_large" if error.code == 413 else error.reason.lower().replace(" ", "_")
        body = problem_body(error.code, code, f"{error.reason}: {error.body}.", new_request_id())
        self.status = f"{error.code} {error.reason}"
        self.response_headers += [("Content-Type", CONTENT_TYPE), ("Access-Control-Allow-Origin", "*")]
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class ProblemChannel(HTTPChannel):
    error_task_class = ProblemTask


def listen(app: Flask, settings: Settings) -> waitress.server.BaseWSGIServer:
    """A server that has the port and waits for `run`; SettingError when the port cannot be had."""
    try:
        server = waitress.create_server(
            app,
            host=settings.host,
            port=settings.port,
            threads=settings.threads,
            ident="dexpression",
            max_request_body_size=settings.max_upload_bytes,
            inbuf_overflow=settings.max_upload_bytes + 1,  # above it waitress would write the upload to disk
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SettingError(
            f"Cannot listen on {settings.host}:{settings.port} ({reason}). "
            "Stop what uses it, or choose another with DEXPRESSION_HOST and DEXPRESSION_PORT."
        ) from error
    server.channel_class = ProblemChannel
    return server


def _stop(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(0)
