"""The STT classes of LiveKit Agents and Pipecat, as they are, against /v1/realtime.

Their packages need other versions of ours, so they run in an environment of their own, which
`make clients` makes.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import ROOT
from tests.support.realtime import KEY, pcm, said
from tests.support.server import Server, running_server
from tests.support.truth import word_error_rate

PYTHON = ROOT / ".venv-clients" / "bin" / "python"
SCRIPTS = Path(__file__).parent / "live_clients"
TIMEOUT_S = 300
NUM_WORDS = str(len(said("en_short")))
SERVER_VAD = {"type": "server_vad"}
# name: (script, options of the class)
CLIENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "livekit": ("livekit", {}),
    "livekit-commits": ("livekit", {"model": "gpt-live-transcribe", "language": ["en", "es"]}),
    "pipecat": ("pipecat", {"turn_detection": SERVER_VAD, "settings": {"model": "whisper-1"}}),
    "pipecat-commits": ("pipecat", {}),
}

pytestmark = pytest.mark.skipif(
    not PYTHON.exists(), reason="LiveKit Agents and Pipecat are not installed: `make clients`"
)
Told = list[dict[str, str]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("clients")
    with running_server(folder, API_KEYS=f"me:{KEY}", JOBS="false") as running:
        yield running


@pytest.fixture(scope="module")
def told(server: Server) -> dict[str, Told]:
    """What each client tells. They run at the same time: each is slow to start."""
    with ThreadPoolExecutor(len(CLIENTS)) as threads:
        return dict(zip(CLIENTS, threads.map(lambda name: run(server, name), CLIENTS), strict=True))


def run(server: Server, name: str) -> Told:
    script, options = CLIENTS[name]
    address = f"{server.url}/v1"
    if script == "pipecat":
        address = address.replace("http", "ws", 1) + "/realtime"
    done = subprocess.run(
        [PYTHON, SCRIPTS / f"{script}_client.py", address, KEY, json.dumps(options), NUM_WORDS],
        input=pcm("en_short"),
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def texts(events: Told, kind: str) -> str:
    return " ".join(event["text"] for event in events if event["event"] == kind)


@pytest.mark.parametrize("name", ["livekit", "livekit-commits"])
def test_livekit_agents(told: dict[str, Told], name: str) -> None:
    events = told[name]
    assert word_error_rate(said("en_short"), texts(events, "final_transcript")) == 0
    assert texts(events, "interim_transcript")
    kinds = [event["event"] for event in events]
    assert kinds[0] == "start_of_speech"
    assert "end_of_speech" in kinds


@pytest.mark.parametrize("name", ["pipecat", "pipecat-commits"])
def test_pipecat(told: dict[str, Told], name: str) -> None:
    events = told[name]
    assert not texts(events, "ErrorFrame")
    assert word_error_rate(said("en_short"), texts(events, "TranscriptionFrame")) == 0
    # deltas: each holds new words only
    assert word_error_rate(said("en_short"), texts(events, "InterimTranscriptionFrame")) == 0
    turns = {event["event"] for event in events} & {"ProposedUserStartedSpeakingFrame"}
    assert bool(turns) == (name == "pipecat")
