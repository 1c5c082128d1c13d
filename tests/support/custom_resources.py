"""The custom resources in deploy/kubernetes, with the fields that their operators document, and no others.

Of pods, only that they are mappings: Kubernetes's own schema describes the rest.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Duration = Annotated[str, Field(pattern=r"^\d+(ms|s|m|h)$")]  # of Prometheus
Count = Annotated[int, Field(ge=0)]


class Strict(BaseModel):
    """Neither other fields nor values of another type, such as a number in place of a text."""

    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel)


class Metadata(Strict):
    name: Annotated[str, Field(pattern=r"^[a-z]([-a-z0-9]{0,45}[a-z0-9])?$")]  # KubeRay adds to it
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class Resource(Strict):
    """What every resource has; `spec` is added by its kind."""

    api_version: str
    kind: str
    metadata: Metadata


class LabelSelector(Strict):
    match_labels: dict[str, str]


class SecretKey(Strict):
    name: str
    key: str
    optional: bool | None = None


class Authorization(Strict):
    type: str = "Bearer"
    credentials: SecretKey


class PodMetricsEndpoint(Strict):
    port: str
    path: str = "/metrics"
    scheme: Literal["http", "https"] = "http"
    interval: Duration | None = None
    scrape_timeout: Duration | None = None
    authorization: Authorization | None = None


class PodMonitorSpec(Strict):
    selector: LabelSelector
    pod_metrics_endpoints: Annotated[list[PodMetricsEndpoint], Field(min_length=1)]
    job_label: str | None = None
    pod_target_labels: list[str] = []
    sample_limit: Count | None = None


class PodMonitor(Resource):
    """Of the Prometheus Operator."""

    api_version: Literal["monitoring.coreos.com/v1"]
    kind: Literal["PodMonitor"]
    spec: PodMonitorSpec


class ScaleTarget(Strict):
    name: str
    api_version: str = "apps/v1"
    kind: str = "Deployment"


class PrometheusMetadata(Strict):
    """All values are texts, of numbers too."""

    server_address: Annotated[str, Field(pattern=r"^https?://")]
    query: str
    threshold: Annotated[str, Field(pattern=r"^\d+(\.\d+)?$")]
    activation_threshold: str | None = None
    ignore_null_values: Literal["true", "false"] = "true"
    unsafe_ssl: Literal["true", "false"] = "false"


class PrometheusTrigger(Strict):
    type: Literal["prometheus"]
    metadata: PrometheusMetadata
    metric_type: Literal["AverageValue", "Value"] = "AverageValue"


class CpuMetadata(Strict):
    value: Annotated[str, Field(pattern=r"^\d+$")]
    container_name: str | None = None


class CpuTrigger(Strict):
    type: Literal["cpu"]
    metadata: CpuMetadata
    metric_type: Literal["Utilization", "AverageValue"]


class ScaledObjectSpec(Strict):
    scale_target_ref: ScaleTarget
    min_replica_count: Count
    max_replica_count: Count
    polling_interval: Count = 30
    cooldown_period: Count = 300
    triggers: Annotated[
        list[Annotated[PrometheusTrigger | CpuTrigger, Field(discriminator="type")]], Field(min_length=1)
    ]


class ScaledObject(Resource):
    """Of KEDA."""

    api_version: Literal["keda.sh/v1alpha1"]
    kind: Literal["ScaledObject"]
    spec: ScaledObjectSpec


class AuthOptions(Strict):
    mode: Literal["token", "disabled"]
    secret_name: str | None = None


class HeadGroup(Strict):
    ray_start_params: dict[str, str]
    template: dict[str, Any]


class WorkerGroup(HeadGroup):
    group_name: str
    replicas: Count
    min_replicas: Count
    max_replicas: Count


class RayClusterSpec(Strict):
    ray_version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
    auth_options: AuthOptions
    head_group_spec: HeadGroup
    worker_group_specs: list[WorkerGroup]
    enable_in_tree_autoscaling: bool = False

    @property
    def templates(self) -> list[dict[str, Any]]:
        """Of the pods of all groups."""
        return [group.template for group in (self.head_group_spec, *self.worker_group_specs)]


class RayJobSpec(Strict):
    entrypoint: str
    ray_cluster_spec: RayClusterSpec
    backoff_limit: Count = 0
    active_deadline_seconds: Annotated[int, Field(gt=0)] | None = None
    shutdown_after_job_finishes: bool = False
    submission_mode: Literal["K8sJobMode", "HTTPMode", "SidecarMode", "InteractiveMode"] = "K8sJobMode"
    suspend: bool = False
    ttl_seconds_after_finished: Count = 0


class RayJob(Resource):
    """Of KubeRay."""

    api_version: Literal["ray.io/v1"]
    kind: Literal["RayJob"]
    spec: RayJobSpec


class RayServiceSpec(Strict):
    serve_config_v2: str  # of ServeConfig, in YAML
    ray_cluster_config: RayClusterSpec


class RayService(Resource):
    """Of KubeRay."""

    api_version: Literal["ray.io/v1"]
    kind: Literal["RayService"]
    spec: RayServiceSpec


class HttpOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    host: str
    port: int


class Application(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: str
    import_path: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]
    route_prefix: Annotated[str, Field(pattern="^/")]


class ServeConfig(BaseModel):
    """Of Ray Serve, whose own model takes unknown fields."""

    model_config = ConfigDict(extra="forbid", strict=True)

    http_options: HttpOptions
    applications: list[Application]
