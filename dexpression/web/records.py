"""A line in the log and a count in the metrics for every request; never a pixel, a file name or a query."""

from __future__ import annotations

import logging
import time

from flask import Flask, Response, g, request

from dexpression.web.metrics import LATENCY, REQUESTS

NO_ROUTE = "none"  # one name for all addresses that do not exist, or strangers could make as many as they like

logger = logging.getLogger("dexpression.access")


def record_requests(app: Flask) -> None:
    """Of every request that reached a route, or none."""

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
    """Once a request; `method` as HTTP knows them."""
    known = method if method in ("GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "PATCH") else "other"
    REQUESTS.labels(route, known, status).inc()
    LATENCY.labels(route).observe(seconds)
    took = round(1000 * seconds, 1)
    fields = {"method": known, "route": route, "status": status, "milliseconds": took, "request_id": request_id}
    logger.info("%s %s %d %s ms %s", *fields.values(), extra={"fields": fields})
