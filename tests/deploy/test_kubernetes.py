"""The Kubernetes files: against the real schemas, and against the service's own promises."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.support.paths import ROOT

FOLDER = ROOT / "deploy" / "kubernetes"
FILES = sorted(FOLDER.glob("*.yaml"))
SCHEMAS = ROOT / "tests" / "data" / "kubernetes"
PLAIN, RAY = FOLDER / "deployment.yaml", FOLDER / "whisper-rayservice.yaml"


def documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def the(path: Path, kind: str) -> dict[str, Any]:
    (found,) = (document for document in documents(path) if document["kind"] == kind)
    return found


def schema_of(document: Mapping[str, Any]) -> dict[str, Any]:
    if document["kind"] == "RayService":
        return json.loads(gzip.decompress((SCHEMAS / "rayservice-v1.json.gz").read_bytes()))
    known = json.loads(gzip.decompress((SCHEMAS / "v1.33.json.gz").read_bytes()))
    group, _, version = document["apiVersion"].rpartition("/")
    wanted = {"group": group, "kind": document["kind"], "version": version}
    (name,) = (
        name
        for name, schema in known["$defs"].items()
        if wanted in schema.get("x-kubernetes-group-version-kind", ())
    )
    return {**known, "$ref": f"#/$defs/{name}"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_files_meet_the_schemas(path: Path) -> None:
    found = documents(path)
    assert found
    for document in found:
        jsonschema.Draft202012Validator(schema_of(document)).validate(document)


def test_the_schemas_are_strict() -> None:
    for path, kind in ((PLAIN, "Deployment"), (RAY, "RayService")):
        document = the(path, kind)
        document["spec"]["replica"] = 1
        with pytest.raises(jsonschema.ValidationError, match="replica"):
            jsonschema.Draft202012Validator(schema_of(document)).validate(document)


def pods(path: Path) -> Iterator[dict[str, Any]]:
    for document in documents(path):
        spec = document.get("spec", {})
        if "template" in spec:
            yield spec["template"]["spec"]
        if cluster := spec.get("rayClusterConfig"):
            for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
                yield group["template"]["spec"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_pods_are_confined(path: Path) -> None:
    for pod in pods(path):
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert "memory" in container["resources"]["limits"]


def serve_config() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(the(RAY, "RayService")["spec"]["serveConfigV2"])
    return loaded


def test_only_settings_are_set() -> None:
    (application,) = serve_config()["applications"]
    example = (ROOT / ".env.example").read_text()
    for name in (*the(PLAIN, "ConfigMap")["data"], *application["args"]):
        assert re.search(rf"^#?{name}=", example, re.MULTILINE), name


def test_nothing_that_runs_is_cut_off() -> None:
    settings = the(PLAIN, "ConfigMap")["data"]
    pod = the(PLAIN, "Deployment")["spec"]["template"]["spec"]
    drain = int(settings["SHUTDOWN_DRAIN_SECONDS"]) + int(settings["SHUTDOWN_GRACE_SECONDS"])
    assert pod["terminationGracePeriodSeconds"] > drain

    spec = the(RAY, "RayService")["spec"]
    drain = serve_config()["applications"][0]["args"]["REQUEST_TIMEOUT_SECONDS"] + 60
    assert spec["rayClusterDeletionDelaySeconds"] > drain
    for group in spec["rayClusterConfig"]["workerGroupSpecs"]:
        pod = group["template"]["spec"]
        assert drain < ray_drains_s(pod) < pod["terminationGracePeriodSeconds"]
    head = spec["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]
    assert ray_drains_s(head) < head["terminationGracePeriodSeconds"]


def ray_drains_s(pod: Mapping[str, Any]) -> float:
    """How long `ray start --block` waits for a node's work once its pod is to end."""
    return float(variables(pod)["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"])


def variables(pod: Mapping[str, Any]) -> dict[str, str]:
    (container,) = pod["containers"]
    return {variable["name"]: variable["value"] for variable in container["env"]}


def test_all_nodes_have_rays_variables() -> None:
    for pod in list(pods(RAY))[:3]:
        found = variables(pod)
        assert found["RAY_SERVE_FORCE_STOP_UNHEALTHY_REPLICAS"] == "1"
        assert found["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"].startswith("app.serving.")


def test_parts_find_each_other() -> None:
    pod = the(PLAIN, "Deployment")["spec"]["template"]
    labels = pod["metadata"]["labels"]
    for kind in ("Deployment", "PodDisruptionBudget"):
        assert the(PLAIN, kind)["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert the(PLAIN, "Service")["spec"]["selector"].items() <= labels.items()
    ports = {port["name"]: port["containerPort"] for port in pod["spec"]["containers"][0]["ports"]}
    assert ports == {"http": 9000}
    assert the(PLAIN, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"] == "whisperx-asr"
    metric = the(PLAIN, "HorizontalPodAutoscaler")["spec"]["metrics"][0]["pods"]["metric"]["name"]
    assert metric in (ROOT / "deploy/monitoring/alerts.yml").read_text()


def test_the_fleet_is_the_documented_one() -> None:
    """Users of the streaming service know these names and this port."""
    service = the(RAY, "RayService")
    assert service["metadata"]["name"] == "whisper-streaming"  # KubeRay adds -serve-svc, -head-svc
    assert serve_config()["http_options"]["port"] == 8000
    cluster = service["spec"]["rayClusterConfig"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert cluster["authOptions"]["mode"] == "token"
    assert "redisAddress" in cluster["gcsFaultToleranceOptions"]
    locked = re.search(
        r"^ray==([\d.]+)", (ROOT / "requirements-ray.lock").read_text(), re.MULTILINE
    )
    assert locked
    assert cluster["rayVersion"] == locked[1]


def test_each_deployment_fits_a_node_of_its_group() -> None:
    groups = {
        group["groupName"]: group["template"]["spec"]["containers"][0]["resources"]
        for group in the(RAY, "RayService")["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    }
    (application,) = serve_config()["applications"]
    options = {item["name"]: item["ray_actor_options"] for item in application["deployments"]}
    assert options["Front"]["num_cpus"] <= float(groups["fronts"]["requests"]["cpu"])
    assert options["Transcriber"]["num_cpus"] <= float(groups["gpus"]["requests"]["cpu"])
    assert groups["gpus"]["limits"]["nvidia.com/gpu"] == "1"
    most = application["args"]["FLEET_MAX_TRANSCRIBERS"]
    (gpus,) = (
        group
        for group in the(RAY, "RayService")["spec"]["rayClusterConfig"]["workerGroupSpecs"]
        if group["groupName"] == "gpus"
    )
    assert gpus["maxReplicas"] == most
