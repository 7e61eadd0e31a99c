"""Caddy with the production configuration, in front of two replicas of the service."""

from __future__ import annotations

import io
import os
import re
import signal
import struct
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from scipy.io import wavfile

from tests.support.deployment import (
    BASE,
    CADDY,
    CADDY_LIMITS,
    PROD,
    caddy_folder,
    caddy_program,
    compose,
    has_rate_limit,
    keeps_bodies,
)
from tests.support.events import streaming
from tests.support.media import speech
from tests.support.ports import free_port
from tests.support.server import Server, running_server
from tests.support.truth import audio_of, normalize, truth_of
from tests.support.waiting import eventually

BURST = 6
PADDING_BYTES = 50_000_000


@dataclass(frozen=True)
class Front:
    """`server`: the service as its clients see it, through Caddy."""

    server: Server
    replicas: tuple[Server, ...]


def _environment(folder: Path, **values: Any) -> dict[str, str]:
    """Of Caddy, which keeps its files in the folder."""
    own = {"HOME": folder, "XDG_DATA_HOME": folder / "data", "XDG_CONFIG_HOME": folder / "config"}
    return {**os.environ, **{name: str(value) for name, value in {**own, **values}.items()}}


@contextmanager
def _running_caddy(folder: Path, ports: list[int]) -> Iterator[str]:
    folder.mkdir()
    url = f"http://127.0.0.1:{free_port()}"
    environment = _environment(folder, SITE_ADDRESS=url, HEALTH_PORT=free_port())
    command = [caddy_program(), "run", "--config", caddy_folder(folder, ports)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=folder
        )
    try:
        eventually(lambda: _answers(url))
        yield url
    finally:
        process.kill()  # at its end it would wait for every connection
        process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ready").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    caddy_program()  # skips before anything starts
    folder = tmp_path_factory.mktemp("caddy")
    shared = {"DATA_DIR": folder / "data", "TRUSTED_PROXIES": "*"}
    ports = [free_port(), free_port()]
    with (
        running_server(folder / "a", port=ports[0], computing=True, **shared) as a,
        running_server(folder / "b", port=ports[1], computing=True, **shared) as b,
        _running_caddy(folder / "caddy", ports) as url,
    ):
        yield Front(Server(url, a.process, folder / "caddy"), (a, b))


def test_events_pass_as_they_come(front: Front) -> None:
    with streaming(front.server, audio_of("en_mono")) as (response, events):
        assert response.status_code == 200
        first = next(events)
        running = [r.get("/queue").json() for r in front.replicas]
        names = [first.name, *(event.name for event in events)]
    assert any(queue["requests"] for queue in running), "the first event came with the last"
    assert names[-1] == "result"


def test_a_large_upload_passes(front: Front) -> None:
    response = front.server.post(_padded_wave("en_short"), name="padded.wav", output="txt")
    assert response.status_code == 200, response.text
    said = " ".join(sentence["text"] for sentence in truth_of("en_short")["sentences"])
    assert normalize(response.text) == normalize(said)


def _padded_wave(name: str) -> bytes:
    """A recording behind a chunk of 50 MB that players skip."""
    file = io.BytesIO()
    wavfile.write(file, 16_000, speech(name))
    wave = file.getvalue()
    padded = wave[8:12] + b"JUNK" + struct.pack("<I", PADDING_BYTES) + bytes(PADDING_BYTES)
    padded += wave[12:]
    return b"RIFF" + struct.pack("<I", len(padded)) + padded


@pytest.mark.parametrize("path", ["/metrics", "/metrics/", "//metrics", "/%6detrics"])
def test_metrics_are_not_for_everybody(front: Front, path: str) -> None:
    response = front.server.get(path)
    assert response.status_code == 404
    assert "whisperx_asr" not in response.text


@pytest.mark.parametrize(
    ("path", "passes"), [("/stream", True), ("/v1/realtime", True), ("/asr", False)]
)
def test_an_upgrade_passes_only_where_web_sockets_are(
    front: Front, path: str, passes: bool
) -> None:
    handshake = {
        "Connection": "Upgrade",
        "Upgrade": "WebSocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg==",
    }
    response = httpx.get(front.server.url + path, headers=handshake)
    assert (response.status_code == 101) is passes


def test_errors_are_the_services_own(front: Front) -> None:
    response = front.server.post(b"not audio")
    assert response.status_code == 400
    assert response.json()["detail"]
    assert "server" not in {name.lower() for name in response.headers} or (
        "caddy" not in response.headers["server"].lower()
    )


def test_a_lost_replica_costs_only_what_it_was_working_on(front: Front) -> None:
    def post(index: int) -> int:
        try:
            return front.server.post(audio_of("en_short"), output="txt").status_code
        except httpx.RemoteProtocolError:  # the replica died after the head of its answer
            return 502

    with ThreadPoolExecutor(BURST) as callers:
        assert list(callers.map(post, range(BURST))) == [200] * BURST
    assert [_uploads(replica) > 0 for replica in front.replicas] == [True, True]
    lost = front.replicas[1]
    with ThreadPoolExecutor(BURST) as callers:
        answers = [callers.submit(post, index) for index in range(BURST)]
        eventually(lambda: lost.get("/queue").json()["requests"])
        lost.process.send_signal(signal.SIGKILL)
        statuses = {answer.result() for answer in answers}
    assert 200 in statuses
    assert statuses <= {200, 502}  # Caddy has no copy of the uploads that the replica had read
    if keeps_bodies():
        assert [post(index) for index in range(BURST)] == [200] * BURST
    assert [front.server.get("/v1/models").status_code for _ in range(4)] == [200] * 4


def _uploads(replica: Server) -> int:
    return len(re.findall(r"POST.*/asr", replica.log()))


# -- the files -------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["localhost", "asr.example.com", ":9000"])
def test_caddy_takes_the_configuration(tmp_path: Path, address: str) -> None:
    config = caddy_folder(tmp_path)
    command = [caddy_program(), "validate", "--adapter", "caddyfile", "--config", config]
    done = subprocess.run(
        command,
        env=_environment(tmp_path, SITE_ADDRESS=address),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_caddy_takes_the_rate_limit(tmp_path: Path) -> None:
    """With a build that has it. Else only what the file itself says."""
    text = CADDY_LIMITS.read_text()
    assert re.search(r"rate_limit \{\s+zone \w+ \{\s+key \S+\s+window \w+\s+events \S+\s+\}", text)
    assert "import caddy/ratelimit.caddy" in CADDY.read_text()
    if not has_rate_limit():
        pytest.skip("this caddy has no rate limit: only the form of its file was checked")
    test_caddy_takes_the_configuration(tmp_path, "localhost")


def test_every_value_of_the_files_is_given() -> None:
    wanted = set(re.findall(r"\{\$(\w+)", CADDY.read_text() + CADDY_LIMITS.read_text()))
    service = compose(BASE)["services"]["caddy"]
    given = {*service["environment"], *re.findall(r"(\w+)=\$\$\(\(", service["entrypoint"][2])}
    assert wanted - given == {"HEALTH_PORT"}


def test_caddy_asks_for_the_replicas_by_their_names() -> None:
    for path, replica in ((BASE, "whisperx-asr"), (PROD, "whisperx-asr")):
        services = compose(path)["services"]
        name = services["caddy"]["environment"]["REPLICAS"]
        assert name in services[replica]["networks"]["default"]["aliases"]
