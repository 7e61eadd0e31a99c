"""The deployment files without Docker: against the Compose specification and the agreed names."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.config.settings import Settings
from app.service.build import CLOSE_TIMEOUT_S
from app.serving.server import ANSWER_S
from tests.support.deployment import (
    BASE,
    MULTI_GPU,
    NGINX,
    PROD,
    Reset,
    compose,
    nginx_command,
    nginx_main,
    nginx_template,
    nginx_version,
    without_resolver,
)
from tests.support.paths import ROOT

REPLICAS = ("whisperx-asr", "whisperx-asr-cpu")


# -- Compose ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [BASE, PROD, MULTI_GPU], ids=lambda path: path.name)
def test_compose_files_meet_the_specification(path: Path, tmp_path: Path) -> None:
    # check-jsonschema knows no tags: without them, a file is what Compose validates
    plain = tmp_path / path.name
    plain.write_text(json.dumps(compose(path)))
    check = Path(sys.executable).parent / "check-jsonschema"
    subprocess.run([check, "--builtin-schema", "vendor.compose-spec", plain], check=True)


def test_agreed_names() -> None:
    base = compose(BASE)
    assert base["name"] == "whisperx-asr-service"
    assert "whisperx-cache" in base["volumes"]
    assert "profiles" not in base["services"]["whisperx-asr"]
    assert base["services"]["whisperx-asr-cpu"]["profiles"] == ["cpu"]
    for name in REPLICAS:
        service = base["services"][name]
        assert service["networks"]["default"]["aliases"] == ["whisperx-asr-api"]
        assert service["volumes"] == [
            "whisperx-cache:/cache",
            "whisperx-data:/data",
            "whisperx-temp:/tmp",
        ]
        assert service["environment"]["DATA_DIR"] == "/data"
        assert service["ports"] == ["${PORT:-9000}:9000"]
        assert service["restart"] == "unless-stopped"


@pytest.mark.parametrize("path", [BASE, PROD, MULTI_GPU], ids=lambda path: path.name)
def test_nothing_stands_in_the_way_of_scaling(path: Path) -> None:
    for service in compose(path)["services"].values():
        assert "container_name" not in service


@pytest.mark.parametrize("path", [BASE, PROD], ids=lambda path: path.name)
def test_containers_are_confined_and_limited(path: Path) -> None:
    base = compose(BASE)["services"]
    for name, service in compose(path)["services"].items():
        confined = base.get(name, service)
        assert confined["read_only"] is True
        assert confined["cap_drop"] == ["ALL"]
        assert confined["security_opt"] == ["no-new-privileges:true"]
        deploy = service.get("deploy", confined["deploy"])
        assert {"memory", "pids"} <= deploy["resources"]["limits"].keys()
        assert not service.get("privileged")


def test_what_jobs_need_is_asked_for_only_with_their_profile() -> None:
    services = compose(BASE)["services"]
    behind = ("postgresql", "s3", "redis")
    for name in (*behind, "caddy"):
        assert "jobs" in services[name]["profiles"]
        assert services[name]["healthcheck"]
    for name in behind:
        assert "ports" not in services[name]
    for name in REPLICAS:
        for needed, how in services[name]["depends_on"].items():
            assert needed in behind
            assert how == {"condition": "service_healthy", "required": False}


def test_only_the_load_balancer_publishes_a_port_in_production() -> None:
    services = compose(PROD)["services"]
    for name in REPLICAS:
        assert isinstance(services[name]["ports"], Reset)
        # in its own text: Compose overlooks a !reset that comes out of an anchor
        own_text = re.search(rf"^  {name}:\n((?:    .*\n)+)", PROD.read_text(), re.M)
        assert own_text is not None
        assert "ports: !reset []" in own_text[1]
    assert services["nginx"]["ports"] == ["${PORT:-9000}:9000"]
    assert services["nginx"]["networks"]["default"]["aliases"] == ["whisperx-asr-api"]


def test_production_replicas_have_limits_and_come_back() -> None:
    for name in REPLICAS:
        service = compose(PROD)["services"][name]
        assert service["restart"] == "unless-stopped"
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
        assert service["logging"]["options"].keys() == {"max-size", "max-file"}


def test_a_stop_has_the_time_that_the_service_takes() -> None:
    fields = Settings.model_fields
    takes_s = fields["shutdown_drain_s"].default + fields["shutdown_grace_s"].default
    takes_s += 2 * ANSWER_S + CLOSE_TIMEOUT_S
    for name in REPLICAS:
        allowed = compose(BASE)["services"][name]["stop_grace_period"]
        assert takes_s + 5 <= int(allowed.removesuffix("s"))
    for overlay in (PROD, MULTI_GPU):
        for service in compose(overlay)["services"].values():
            assert "stop_grace_period" not in service


def test_gpus() -> None:
    def device(path: Path, name: str) -> Any:
        deploy = compose(path)["services"][name].get("deploy", {})
        return deploy.get("resources", {}).get("reservations", {}).get("devices")

    (one,) = device(BASE, "whisperx-asr")
    assert one["device_ids"] == ["${DEVICE_INDEX:-0}"]
    assert device(BASE, "whisperx-asr-cpu") is None
    (other,) = device(MULTI_GPU, "whisperx-asr-gpu1")
    assert other["device_ids"] == ["1"]


def _compose_command() -> list[str] | None:
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]):
            done = subprocess.run([*command, "version"], capture_output=True, check=False)
            if done.returncode == 0:
                return command
    return None


def test_compose_itself_merges_the_overlays() -> None:
    command = _compose_command()
    if command is None:
        pytest.skip("no Docker Compose here")
    files = [option for path in (BASE, PROD, MULTI_GPU) for option in ("-f", str(path))]
    done = subprocess.run(
        [*command, *files, "--profile", "cpu", "config", "--format", "json"],
        capture_output=True,
        check=True,
    )
    services = json.loads(done.stdout)["services"]
    assert services.keys() == {"nginx", "whisperx-asr-gpu1", *REPLICAS}
    for name in services.keys() - {"nginx"}:
        assert not services[name].get("ports")
        assert services[name]["networks"]["default"]["aliases"] == ["whisperx-asr-replica"]
        assert services[name]["restart"] == "unless-stopped"
    (device,) = services["whisperx-asr-gpu1"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["device_ids"] == ["1"]


# -- Dockerfile ------------------------------------------------------------------------------------


def _instructions(text: str) -> list[tuple[str, str]]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\s*\\\n\s*", " ", "\n".join(lines))
    return [
        (word, rest.strip())
        for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line.strip())
    ]


def _stages() -> list[list[tuple[str, str]]]:
    stages: list[list[tuple[str, str]]] = []
    for word, rest in _instructions((ROOT / "Dockerfile").read_text()):
        if word == "FROM":
            stages.append([])
        stages[-1].append((word, rest))
    return stages


def test_image_runs_as_nobody_special_and_tells_its_health() -> None:
    final = dict(_stages()[-1])
    assert final["USER"].split(":")[0] not in {"root", "0"}
    assert final["HEALTHCHECK"].endswith('CMD ["whisperx-asr", "health"]')
    assert json.loads(final["CMD"]) == ["whisperx-asr", "serve"]
    assert "ENTRYPOINT" not in final  # so that `docker run IMAGE whisperx-asr download` works
    assert final["EXPOSE"] == "9000"
    # Of its user, so that a container to which nobody gives a volume can write there, too.
    assert final["VOLUME"] == "/cache /data"
    made = " ".join(rest for word, rest in _stages()[-1] if word == "RUN")
    assert re.findall(r"install -d -o asr -g asr(?: -m \d+)? (\S+)", made) == ["/cache", "/data"]
    environment = next(rest for word, rest in _stages()[-1] if word == "ENV")
    assert {"CACHE_DIR=/cache", "DATA_DIR=/data"} <= set(environment.split())
    assert final["STOPSIGNAL"] == "SIGTERM"


def test_image_has_no_compiler_and_no_installer() -> None:
    base, final = _stages()[0], _stages()[-1]
    assert base[0] == ("FROM", "debian:trixie-slim AS base")
    assert final[0] == ("FROM", "base")
    installed = " ".join(rest for word, rest in base + final if word == "RUN")
    assert re.findall(r"install -y --no-install-recommends ([^&]*)&&", installed) == ["python3 "]
    assert "pip install" not in installed
    copied = [rest.split()[1:] for word, rest in final if word == "COPY"]
    assert ["/opt/venv", "/opt/venv"] in copied
    assert not any("/opt/uv" in paths for paths in copied)


def test_dependencies_come_before_the_code() -> None:
    def position(stages: list[list[tuple[str, str]]], text: str) -> int:
        flat = [" ".join(pair) for stage in stages for pair in stage]
        return next(i for i, line in enumerate(flat) if text in line)

    stages = _stages()
    assert position(stages, '--require-hashes -r "$LOCK"') < position(stages, "COPY app")
    assert position(stages[-1:], "/opt/venv /opt/venv") < position(stages[-1:], "/opt/app /opt/app")


def test_build_context_holds_all_that_is_copied() -> None:
    kept = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied = {
        source
        for stage in _stages()
        for word, rest in stage
        if word == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    }
    assert copied == kept
    assert all((ROOT / name).exists() for name in kept)


# -- nginx -----------------------------------------------------------------------------------------


def test_every_value_of_the_template_is_given() -> None:
    service = compose(PROD)["services"]["nginx"]
    given = {*service["environment"], *re.findall(r"export (\w+)=", service["entrypoint"][2])}
    wanted = set(re.findall(r"\$\{(\w+)\}", NGINX.read_text()))
    assert wanted <= given
    assert all(re.match(service["environment"]["NGINX_ENVSUBST_FILTER"], name) for name in wanted)


def test_nginx_takes_the_configuration(tmp_path: Path) -> None:
    config = tmp_path / "nginx.conf"
    command = nginx_command(tmp_path, config)
    text = nginx_template(tmp_path)
    if nginx_version(command[0]) < (1, 27, 3):  # before `resolve`
        text = without_resolver(text, [9000])
    config.write_text(nginx_main(tmp_path, text))
    done = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
