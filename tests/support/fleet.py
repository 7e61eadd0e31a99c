"""The service on a Ray cluster of this machine, as users start it, with the demo models."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from tests.support.ports import free_port
from tests.support.server import COMMAND, Server, server_environment

START_TIMEOUT_S = 900  # half a minute on a machine that does nothing else
STOP_TIMEOUT_S = 120
FLEET = {
    "FLEET_FRONTS": 2,
    "FLEET_MIN_TRANSCRIBERS": 2,
    "FLEET_MAX_TRANSCRIBERS": 2,
    "LIVE_MAX_STREAMS_PER_CLIENT": 64,
    "LIVE_IDLE_TIMEOUT_SECONDS": 600,
    "OMP_NUM_THREADS": 1,
    "CPU_THREADS": 1,
}

STARTED = " with Ray"  # in its log


@contextmanager
def running_fleet(folder: Path, **settings: Any) -> Iterator[Server]:
    """Two fronts and two transcribers. All of Ray's processes are gone afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    # short: the paths of its sockets have at most 107 characters
    temp = Path(tempfile.mkdtemp(prefix="ray-"))
    environment = server_environment(folder, **{**FLEET, **settings}, RAY_TMPDIR=temp)
    port = free_port()
    arguments = ["serve", "--ray", "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *COMMAND, *arguments],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: os.nice(max(0, 10 - os.nice(0))),
        )
    server = Server(f"http://127.0.0.1:{port}", process, folder)
    try:
        wait_until_ready(server)
        yield server
    finally:
        stop(process, temp)
        shutil.rmtree(temp, ignore_errors=True)


def wait_until_ready(server: Server) -> None:
    """Its fronts answer before all of it has started, and until then a signal does not wait."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and server.process.poll() is None:
        with suppress(httpx.TransportError):
            if STARTED in server.log() and server.get("/ready").status_code == 200:
                return
        time.sleep(0.5)
    raise AssertionError(f"the service did not start:\n{server.log()[-5000:]}")


def stop(process: subprocess.Popen[bytes], temp: Path) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for left in processes(temp):
        with suppress(psutil.Error):
            left.kill()


def processes(temp: Path) -> list[psutil.Process]:
    """Those of a cluster whose temporary files are here."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("RAY_TMPDIR") == str(temp):
                found.append(process)
    return found


def replicas(server: Server, deployment: str) -> list[psutil.Process]:
    """The processes of a deployment (Front, Transcriber), or of Serve's controller."""
    title = f"ray::ServeReplica:whisperx-asr:{deployment}"
    if deployment == "controller":
        title = "ray::ServeController"
    found = []
    for process in psutil.Process(server.process.pid).children(recursive=True):
        with suppress(psutil.Error):
            if process.name().startswith(title[:15]) and title in " ".join(process.cmdline()):
                found.append(process)
    return found


def samples(server: Server, name: str) -> list[tuple[dict[str, str], float]]:
    """The labels and values of a figure of all replicas."""
    families = text_string_to_metric_families(server.get("/metrics").text)
    return [(s.labels, s.value) for family in families for s in family.samples if s.name == name]


def replica_names(server: Server) -> set[str]:
    """Of all replicas, as the figures have them."""
    return {labels["replica"] for labels, _ in samples(server, "whisperx_asr_ready")}
