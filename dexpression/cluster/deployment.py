"""The deployment of the app on Ray Serve: its replicas, its queue, and how a new model replaces another."""

from __future__ import annotations

import os

from ray import serve
from ray.serve.config import AutoscalingConfig, BackpressureConfig

from dexpression.artifact.verification import verify_onnx_model
from dexpression.cluster.replica import REQUESTS_AT_ONCE, Replica
from dexpression.serving.capacity import choose_workers
from dexpression.settings import Settings, require_choices

NAME = "DeXpression"
BUSY = 2.0  # requests in a replica, on average, for which there should be one more replica
RETRY_SECONDS = 1.0  # after a refusal, as our server has it
UPSCALE_SECONDS = 5.0  # of load that needs one more replica, which is ready in less
METRICS_SECONDS = 1.0  # between two measurements of the load
# A replica uses one core. It reserves half of one, or a cluster full of replicas could start none with a new model.
RESERVED_CORES = 0.5
SURGE_PERCENT = 25  # replicas with a new model that start before as many old ones stop; at least one


def create_application(settings: Settings) -> serve.Application:
    """Make the application that `serve run` deploys; raises ArtifactError, UnknownLabels or UnknownReading.

    The model is read here, once, and sent to the replicas: no other machine needs its files, and a bad one is refused
    before it replaces another.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # for a cluster that `serve run` starts
    model = verify_onnx_model(settings.model_path)
    require_choices(model.manifest.labels, model.manifest.readings, settings)
    deploy = serve.deployment(
        name=NAME,
        ray_actor_options={"num_cpus": RESERVED_CORES},
        autoscaling_config=AutoscalingConfig(
            min_replicas=1,
            max_replicas=choose_workers(settings).count,
            target_ongoing_requests=BUSY,
            upscale_delay_s=UPSCALE_SECONDS,
            metrics_interval_s=METRICS_SECONDS,
            look_back_period_s=UPSCALE_SECONDS,
        ),
        max_ongoing_requests=REQUESTS_AT_ONCE,
        max_queued_requests=settings.max_queue,
        backpressure_config=BackpressureConfig(retry_after_s=RETRY_SECONDS),
        max_surge_percent=SURGE_PERCENT,
        graceful_shutdown_timeout_s=settings.graceful_timeout_seconds,
        logging_config={"enable_access_log": False},  # the app writes its own
    )
    application: serve.Application = deploy(serve.ingress()(Replica)).bind(settings, model)
    return application
