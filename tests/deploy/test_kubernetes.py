"""The manifests in deploy/kubernetes: valid for Kubernetes and its operators, and in accord with the server."""

from __future__ import annotations

import functools
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from kubernetes_validate import utils
from prometheus_client import mmap_dict
from prometheus_client.metrics import MetricWrapperBase
from pydantic import BaseModel

from dexpression import __version__
from dexpression.labels import SEVEN
from dexpression.serving.capacity import count_fitting
from dexpression.serving.supervisor import HANG_SECONDS, NAMES, START_SECONDS
from dexpression.serving.verification_process import VERIFY_SECONDS
from dexpression.settings import Settings
from dexpression.web import metrics
from dexpression.web.openapi import openapi_document
from tests.support.custom_resources import PodMonitor, RayJob, RayService, ScaledObject, ServeConfig
from tests.support.server import ROOT

FOLDER = ROOT / "deploy" / "kubernetes"
OVERLAYS = sorted(path.parent for path in FOLDER.rglob("kustomization.yaml"))
KUBECTL = shutil.which("kubectl")
VERSIONS = list(dict.fromkeys(utils.all_versions()))
UNITS = {"Mi": 2**20, "Gi": 2**30}
DEPLOYMENT_TEXT = (FOLDER / "base/deployment.yaml").read_text(encoding="utf-8")


def read(path: str) -> dict[str, Any]:
    manifest: dict[str, Any] = yaml.safe_load((FOLDER / path).read_text(encoding="utf-8"))
    return manifest


DEPLOYMENT, SERVICE = read("base/deployment.yaml"), read("base/service.yaml")
AUTOSCALER, BUDGET = read("base/horizontal-pod-autoscaler.yaml"), read("base/pod-disruption-budget.yaml")
POLICIES = {name: read(f"{name}/network-policy.yaml") for name in ("base", "ray/label", "ray/serve")}
MONITOR = PodMonitor.model_validate(read("monitoring/pod-monitor.yaml"))
SCALED = ScaledObject.model_validate(read("keda/scaled-object.yaml"))
RAY_JOB = RayJob.model_validate(read("ray/label/ray-job.yaml"))
RAY_SERVICE = RayService.model_validate(read("ray/serve/ray-service.yaml"))
SERVE = ServeConfig.model_validate(yaml.safe_load(RAY_SERVICE.spec.serve_config_v2))

POD = DEPLOYMENT["spec"]["template"]
JOB_PODS = RAY_JOB.spec.ray_cluster_spec.templates
SERVICE_PODS = RAY_SERVICE.spec.ray_cluster_config.templates
PODS = [POD, *JOB_PODS, *SERVICE_PODS]
[CONTAINER] = POD["spec"]["containers"]


def as_pod(template: dict[str, Any]) -> dict[str, Any]:
    """The pod of a template, which Kubernetes's schemas can validate."""
    return {"apiVersion": "v1", "kind": "Pod"} | template


def bytes_of(quantity: str) -> int:
    return int(quantity[:-2]) * UNITS[quantity[-2:]]


def settings_of(pod: dict[str, Any]) -> Settings:
    """The settings of the server in this pod, in the namespace `faces` and with a token."""
    [container] = pod["spec"]["containers"]
    return Settings.from_env({one["name"]: value_of(one, container) for one in container["env"]})


def value_of(variable: dict[str, Any], container: dict[str, Any]) -> str:
    """The value that Kubernetes gives to a variable."""
    match variable.get("valueFrom"):
        case None:
            return str(variable["value"]).replace("$(NAMESPACE)", "faces")
        case {"resourceFieldRef": {"resource": "limits.cpu"}}:
            return str(container["resources"]["limits"]["cpu"])
        case {"fieldRef": {"fieldPath": "metadata.namespace"}}:
            return "faces"
        case {"secretKeyRef": {"optional": True}}:
            return "secret"
        case other:
            raise ValueError(f"{variable['name']} has a source that this test does not know: {other}")


def port_named(name: str, pod: dict[str, Any] = POD) -> int:
    [port] = [port["containerPort"] for port in pod["spec"]["containers"][0]["ports"] if port["name"] == name]
    return int(port)


def volume_at(path: str, pod: dict[str, Any] = POD) -> dict[str, Any]:
    """The volume that is mounted at a path."""
    [name] = [mount["name"] for mount in pod["spec"]["containers"][0]["volumeMounts"] if mount["mountPath"] == path]
    [volume] = [volume for volume in pod["spec"]["volumes"] if volume["name"] == name]
    return dict(volume)


@pytest.fixture(scope="module", autouse=True)
def cached_schemas() -> Iterator[None]:
    """Read each of Kubernetes's schemas once, instead of once for each manifest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "schema_contents", functools.cache(utils.schema_contents))
        yield


@pytest.mark.parametrize("version", VERSIONS)
def test_manifests_are_valid_in_every_version_of_kubernetes(version):
    for manifest in (DEPLOYMENT, SERVICE, AUTOSCALER, BUDGET, *POLICIES.values(), *map(as_pod, PODS)):
        kubernetes_validate.validate(manifest, version, strict=True)


def test_every_manifest_is_checked_and_used():
    checked = {manifest["kind"] for manifest in (DEPLOYMENT, SERVICE, AUTOSCALER, BUDGET, *POLICIES.values())}
    custom: tuple[type[BaseModel], ...] = (PodMonitor, ScaledObject, RayJob, RayService)
    found = [yaml.safe_load(path.read_text()) for path in FOLDER.rglob("*.yaml") if path.name != "kustomization.yaml"]
    assert {manifest["kind"] for manifest in found} == checked | {model.__name__ for model in custom}
    for overlay in OVERLAYS:
        files = {path.name for path in overlay.glob("*.yaml")} - {"kustomization.yaml"}
        listed = yaml.safe_load((overlay / "kustomization.yaml").read_text())["resources"]
        assert files == {name for name in listed if not name.startswith("..")}


@pytest.mark.parametrize("pod", PODS, ids=lambda pod: str(pod["metadata"]["labels"]))
def test_pods_meet_the_restricted_standard_and_have_limits(pod):
    [container] = pod["spec"]["containers"]
    assert pod["spec"]["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert pod["spec"]["automountServiceAccountToken"] is False
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert container["securityContext"] | security == container["securityContext"]
    assert container["resources"]["requests"].keys() == container["resources"]["limits"].keys() == {"cpu", "memory"}


def test_every_setting_is_known():
    assert settings_of(POD).log == "json"
    assert settings_of(SERVICE_PODS[0]).token == "secret"


def test_the_server_writes_to_memory_alone():
    assert CONTAINER["securityContext"]["readOnlyRootFilesystem"] is True
    assert {volume["emptyDir"]["medium"] for volume in POD["spec"]["volumes"]} == {"Memory"}


def test_the_shared_memory_holds_the_metrics_of_all_workers():
    kinds = {type(metric) for metric in vars(metrics).values() if isinstance(metric, MetricWrapperBase)}
    needed = (settings_of(POD).workers or 0) * NAMES * len(kinds) * mmap_dict._INITIAL_MMAP_SIZE
    assert needed
    assert bytes_of(volume_at("/dev/shm")["emptyDir"]["sizeLimit"]) > 2 * needed  # a file of metrics may double


def test_there_are_as_many_workers_as_cores_and_the_memory_holds_them():
    settings, limits = settings_of(POD), CONTAINER["resources"]["limits"]
    in_memory = sum(bytes_of(volume["emptyDir"]["sizeLimit"]) for volume in POD["spec"]["volumes"])
    assert settings.workers == limits["cpu"]
    assert count_fitting(bytes_of(limits["memory"]) - in_memory, settings) >= settings.workers


@pytest.mark.parametrize("probe", ["startupProbe", "readinessProbe", "livenessProbe"])
def test_probes_ask_for_documented_paths_that_need_no_token(probe):
    asked = CONTAINER[probe]["httpGet"]
    operation = openapi_document(SEVEN, requires_token=True)["paths"][asked["path"]]["get"]
    assert "security" not in operation
    assert port_named(asked["port"]) == settings_of(POD).port == Settings().port


def test_only_a_server_that_cannot_predict_gets_no_requests():
    assert CONTAINER["readinessProbe"]["httpGet"]["path"] == "/health/ready"
    assert CONTAINER["livenessProbe"]["httpGet"]["path"] == "/health/live"


def test_the_server_has_the_time_that_it_may_take():
    startup, liveness = CONTAINER["startupProbe"], CONTAINER["livenessProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] > VERIFY_SECONDS + START_SECONDS
    until_restart = liveness["periodSeconds"] * (liveness["failureThreshold"] - 1)
    assert until_restart > settings_of(POD).request_timeout_seconds + HANG_SECONDS  # then a worker is replaced


def test_the_server_is_not_killed_before_it_has_finished():
    command, seconds = CONTAINER["lifecycle"]["preStop"]["exec"]["command"]
    assert command == "sleep"
    stop_seconds = int(seconds) + settings_of(POD).graceful_timeout_seconds + 2
    assert POD["spec"]["terminationGracePeriodSeconds"] > stop_seconds


def test_all_selectors_find_the_pods_of_the_server():
    [spread] = POD["spec"]["topologySpreadConstraints"]
    selectors = [manifest["spec"]["selector"]["matchLabels"] for manifest in (DEPLOYMENT, BUDGET)]
    selectors += [SERVICE["spec"]["selector"], POLICIES["base"]["spec"]["podSelector"]["matchLabels"]]
    selectors += [spread["labelSelector"]["matchLabels"], MONITOR.spec.selector.match_labels]
    assert all(selector and selector.items() <= POD["metadata"]["labels"].items() for selector in selectors)


@pytest.mark.parametrize(("name", "pods"), [("ray/label", JOB_PODS), ("ray/serve", SERVICE_PODS)])
def test_pods_of_ray_reach_each_other_and_are_found_by_their_policy_alone(name, pods):
    policy = POLICIES[name]["spec"]
    selected = policy["podSelector"]["matchLabels"]
    assert all(selected.items() <= pod["metadata"]["labels"].items() for pod in pods)
    assert {"podSelector": {"matchLabels": selected}} in policy["ingress"][0]["from"]
    assert not selected.items() <= POD["metadata"]["labels"].items()


def test_the_pod_that_submits_the_job_reaches_ray():
    callers = POLICIES["ray/label"]["spec"]["ingress"][0]["from"]
    assert {"podSelector": {"matchLabels": {"job-name": RAY_JOB.metadata.name}}} in callers


def test_ports_with_names_exist():
    [port] = SERVICE["spec"]["ports"]
    [allowed] = POLICIES["base"]["spec"]["ingress"][0]["ports"]
    [endpoint] = MONITOR.spec.pod_metrics_endpoints
    assert {port_named(name) for name in (port["targetPort"], allowed["port"], endpoint.port)} == {port["port"]}
    assert port["port"] == Settings().port


def test_both_autoscalers_scale_the_deployment_and_keep_two_pods():
    target = {"apiVersion": DEPLOYMENT["apiVersion"], "kind": "Deployment", "name": DEPLOYMENT["metadata"]["name"]}
    assert AUTOSCALER["spec"]["scaleTargetRef"] == target
    assert SCALED.spec.scale_target_ref.model_dump(by_alias=True) == target
    assert "replicas" not in DEPLOYMENT["spec"]  # each `kubectl apply` would undo the scaling
    assert AUTOSCALER["spec"]["minReplicas"] == SCALED.spec.min_replica_count > BUDGET["spec"]["maxUnavailable"]


def test_queries_have_metrics_of_the_server():
    known = set(re.findall(r"^# TYPE (\w+)", metrics.metrics_text().decode(), re.MULTILINE))
    queries = [trigger.metadata.query for trigger in SCALED.spec.triggers if trigger.type == "prometheus"]
    named = {name for query in queries for name in re.findall(r"dexpression_\w+", query)}
    assert named
    assert named <= known


def test_prometheus_reads_the_metrics_with_the_token_of_the_server():
    [endpoint] = MONITOR.spec.pod_metrics_endpoints
    assert endpoint.path in openapi_document(SEVEN)["paths"]
    [token] = [variable for variable in CONTAINER["env"] if variable["name"] == "DEXPRESSION_TOKEN"]
    assert endpoint.authorization
    sent = endpoint.authorization.credentials.model_dump(exclude_unset=True) | {"optional": True}
    assert token["valueFrom"]["secretKeyRef"] == sent
    assert endpoint.authorization.type == "Bearer"


@pytest.mark.parametrize(
    ("pod", "service"),
    [(POD, SERVICE["metadata"]["name"]), *((pod, f"{RAY_SERVICE.metadata.name}-serve-svc") for pod in SERVICE_PODS)],
)
def test_the_server_answers_by_all_names_of_its_service(pod, service):
    names = [service, f"{service}.faces", f"{service}.faces.svc", f"{service}.faces.svc.cluster.local"]
    assert settings_of(pod).hosts.split() == names


def test_an_own_model_is_served_with_the_lines_that_are_commented_out():
    text = re.sub(r"^(\s+)# (?=- name: DEXPRESSION_|  value|- \{ name: model|- name: model|  persistent)", r"\1",
                  DEPLOYMENT_TEXT, flags=re.MULTILINE)  # fmt: skip
    deployment = yaml.safe_load(text)
    kubernetes_validate.validate(deployment, VERSIONS[-1], strict=True)
    pod = deployment["spec"]["template"]
    assert volume_at(str(settings_of(pod).model_path), pod)["persistentVolumeClaim"]["readOnly"] is True


def test_images_have_the_version_of_the_package():
    for overlay in OVERLAYS:
        for image in yaml.safe_load((overlay / "kustomization.yaml").read_text()).get("images", []):
            assert image["newTag"] == __version__
    assert {pod["spec"]["containers"][0]["image"] for pod in PODS} == {"dexpression", "dexpression-ray"}


def test_ray_has_the_version_of_the_lock_everywhere():
    dockerfile = (FOLDER / "ray/Dockerfile").read_text()
    locked = json.loads((ROOT / "Pipfile.lock").read_text())["develop"]["ray"]["version"].removeprefix("==")
    clusters = RAY_JOB.spec.ray_cluster_spec, RAY_SERVICE.spec.ray_cluster_config
    assert {cluster.ray_version for cluster in clusters} == {locked}
    assert re.findall(r"^ARG RAY_IMAGE=rayproject/ray:([\d.]+)-py3\d+$", dockerfile, re.MULTILINE) == [locked]


def test_the_image_with_ray_copies_what_is_sent_to_the_build_of_the_server():
    copied = [re.findall(r"^COPY (?:--chown=\w+ )?(.+) \S+$", path.read_text(), re.MULTILINE)
              for path in (ROOT / "Dockerfile", FOLDER / "ray/Dockerfile")]  # fmt: skip
    servers, ray = ({source for line in lines for source in line.split()} for lines in copied)
    assert ray <= servers


def test_ray_requires_a_token_and_sends_no_statistics():
    for cluster in (RAY_JOB.spec.ray_cluster_spec, RAY_SERVICE.spec.ray_cluster_config):
        assert cluster.auth_options.mode == "token"
        for pod in cluster.templates:
            assert {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"} in pod["spec"]["containers"][0]["env"]


def test_ray_serves_our_app_on_the_port_of_the_server():
    [application] = SERVE.applications
    assert (application.import_path, application.route_prefix) == ("dexpression.cluster:app", "/")
    assert {SERVE.http_options.port} == {port_named("serve", pod) for pod in SERVICE_PODS} == {Settings().port}
    callers = POLICIES["ray/serve"]["spec"]["ingress"][1]
    assert callers["ports"] == [{"port": "serve"}]
    assert callers["from"] == POLICIES["base"]["spec"]["ingress"][0]["from"]


def test_the_job_writes_its_table_to_a_volume_that_all_pods_have():
    program, command, _, table, *options = shlex.split(RAY_JOB.spec.entrypoint)
    assert (program, command, options) == ("dexpression", "label", ["--on", "ray:$RAY_ADDRESS"])
    claims = {volume_at(table, pod)["persistentVolumeClaim"]["claimName"] for pod in JOB_PODS}
    assert claims == {"dexpression-table"}


def build(overlay: Path) -> list[dict[str, Any]]:
    """The manifests that `kubectl apply -k` would send."""
    if not KUBECTL:
        pytest.skip("kubectl is not installed (Debian: kubernetes-client, of which 1.21 or newer builds the overlays)")
    done = subprocess.run([KUBECTL, "kustomize", overlay], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return list(yaml.safe_load_all(done.stdout))


BASE_KINDS = {"Deployment", "HorizontalPodAutoscaler", "NetworkPolicy", "PodDisruptionBudget", "Service"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overlay", "kinds"),
    [
        ("base", BASE_KINDS),
        ("monitoring", BASE_KINDS | {"PodMonitor"}),
        ("keda", BASE_KINDS - {"HorizontalPodAutoscaler"} | {"PodMonitor", "ScaledObject"}),
        ("ray/label", {"NetworkPolicy", "RayJob"}),
        ("ray/serve", {"NetworkPolicy", "RayService"}),
    ],
)
def test_kustomize_builds_every_overlay_with_the_chosen_image(overlay, kinds):
    manifests = build(FOLDER / overlay)
    assert sorted(manifest["kind"] for manifest in manifests) == sorted(kinds)
    images = set(re.findall(r"'image': '(\S+)'", str(manifests)))
    assert images == {f"dexpression{'-ray' if overlay.startswith('ray/') else ''}:{__version__}"}
