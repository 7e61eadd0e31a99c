"""The files for Prometheus and Grafana."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from tests.support.deployment import BASE, MULTI_GPU, PROD, compose
from tests.support.paths import ROOT

MONITORING = ROOT / "deploy" / "monitoring"


GRAFANA = MONITORING / "grafana"


@pytest.mark.parametrize(
    "command",
    [
        ["check", "config", "prometheus.yml"],
        ["check", "rules", "alerts.yml"],
        ["test", "rules", "alerts.test.yml"],
    ],
    ids=" ".join,
)
def test_prometheus_takes_the_files(command: list[str]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool here (Debian: apt install prometheus)")
    done = subprocess.run(
        [promtool, *command], cwd=MONITORING, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_test() -> None:
    rules = yaml.safe_load((MONITORING / "alerts.yml").read_text())
    tests = yaml.safe_load((MONITORING / "alerts.test.yml").read_text())
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    fired = {
        case["alertname"]
        for test in tests["tests"]
        for case in test["alert_rule_test"]
        if case.get("exp_alerts")
    }
    assert fired == alerts


def test_every_replica_is_asked() -> None:
    """By the name of its service, or by the one that all replicas in production have in common."""
    jobs = yaml.safe_load((MONITORING / "prometheus.yml").read_text())["scrape_configs"]
    [found] = jobs[0]["dns_sd_configs"]
    names = set(found["names"])
    for path in (BASE, PROD, MULTI_GPU):
        for name, service in compose(path)["services"].items():
            if name.startswith("whisperx-asr"):
                known = {name, *service["networks"]["default"]["aliases"]}
                assert names & known, f"{name} of {path.name} is not asked"
    assert found["port"] == 9000


def test_monitoring_is_for_this_machine_only() -> None:
    services = compose(BASE)["services"]
    for name in ("prometheus", "grafana"):
        service = services[name]
        assert service["profiles"] == ["monitoring"]
        assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+", service["image"])
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert not source.startswith(".") or (ROOT / source).exists()
    settings = services["grafana"]["environment"]
    assert settings["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert settings["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"


def test_the_dashboard_holds_together() -> None:
    dashboard: dict[str, Any] = json.loads((GRAFANA / "dashboards/whisperx-asr.json").read_text())
    source = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())
    uids = set(re.findall(r'"uid": "(\w+)"', json.dumps(dashboard["panels"])))
    assert uids == {source["datasources"][0]["uid"]}
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells), "panels overlap"
    assert all(x < 24 for x, _ in cells)
    providers = yaml.safe_load((GRAFANA / "provisioning/dashboards/dashboards.yml").read_text())
    folder = providers["providers"][0]["options"]["path"]
    mounted = [v.split(":")[1] for v in compose(BASE)["services"]["grafana"]["volumes"]]
    assert folder in mounted
