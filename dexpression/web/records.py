"""The access log and the request metrics. Neither has a pixel, a file name or a query."""

from __future__ import annotations

import logging
import time

from flask import Flask, Response, g, request

from dexpression.web.metrics import LATENCY, REQUESTS

NO_ROUTE = "none"  # one name for all unknown addresses, or callers could create any number of metrics
# Beginnings of routes.
ROUTINE = (
    "/health/",
    "/metrics",
    "/static/",
    "/docs",
    "/client.js",
    "/openapi.json",
    "/v2/health/",
    "/v2/models/<model>/ready",
    "/v2/models/<model>/versions/<version>/ready",
)

logger = logging.getLogger("dexpression.access")


def record_requests(app: Flask) -> None:
    """Record every request that reaches the app, with its duration."""

    @app.before_request
    def start_clock() -> None:
        g.started = time.perf_counter()

    @app.after_request
    def record(response: Response) -> Response:
        seconds = time.perf_counter() - g.started
        route = request.url_rule.rule if request.url_rule else NO_ROUTE
        record_request(route, request.method, response.status_code, seconds, g.request_id)
        return response


def record_request(route: str, method: str, status: int, seconds: float, request_id: str) -> None:
    """Count one request and write its log line; a method that HTTP does not define is recorded as `other`."""
    known = method if method in ("GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "PATCH") else "other"
    REQUESTS.labels(route, known, status).inc()
    LATENCY.labels(route).observe(seconds)
    milliseconds = round(1000 * seconds, 1)
    fields = {
        "method": known,
        "route": route,
        "status": status,
        "milliseconds": milliseconds,
        "request_id": request_id,
    }
    level = logging.DEBUG if route.startswith(ROUTINE) and status < 400 else logging.INFO
    logger.log(level, "%s %s %d %s ms %s", *fields.values(), extra={"fields": fields})
