"""The metrics of GET /metrics; prometheus_client adds up those of all workers from shared memory."""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from dexpression.reading import Reading

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

REQUESTS = Counter("dexpression_requests", "Requests that were answered.", ["route", "method", "status"])
LATENCY = Histogram(
    "dexpression_request_seconds", "From the complete request to its answer.", ["route"], buckets=SECONDS
)
WAITING = Gauge("dexpression_requests_waiting", "Requests that wait in the queue.", multiprocess_mode="livesum")
FACES = Histogram(
    "dexpression_picture_faces",
    "Faces in a picture, which the network predicts as one batch.",
    buckets=(0, 1, 2, 4, 8, 16, 32, 64),
)
ANSWERS = Counter("dexpression_answers", "Predicted labels.", ["label", "reading"])
REJECTS = Counter("dexpression_rejects", "Requests, or pictures of a request, that were refused.", ["code"])
MODEL = Gauge(
    "dexpression_model_workers", "Workers that answer with this model.", ["sha256"], multiprocess_mode="livesum"
)


def count_reading(reading: Reading) -> None:
    """Count the faces of a picture, and the label of each or, without a face, of the whole picture."""
    FACES.observe(len(reading.faces))
    predictions = [face.prediction for face in reading.faces] or ([reading.whole] if reading.whole else [])
    for prediction in predictions:
        ANSWERS.labels(prediction.emotion, reading.name).inc()


def metrics_text() -> bytes:
    """The metrics in Prometheus's text format, of all workers, or of this process if it is the only one."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest()
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
