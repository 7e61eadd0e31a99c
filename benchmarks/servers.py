"""Servers of both sides in separate processes, and a client for them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from app.commands.demo import free_port
from benchmarks.setup import OUT

SIDES = ("ours", "reference")
MODULES = {
    "ours": ["app.cli", "serve"],
    "reference": ["benchmarks.reference_server"],
    "one lock": ["benchmarks.one_lock"],
}
START_TIMEOUT_S = 900  # large models load slowly from a cold disk
REQUEST_TIMEOUT_S = 100_000


@dataclass(frozen=True, slots=True)
class Server:
    side: str
    url: str
    process: subprocess.Popen[bytes]

    def post(self, audio: bytes | Path, diarize: bool) -> float:
        """The seconds that a transcription takes.

        Raises:
            RuntimeError: the answer is not a transcript.
        """
        content = audio if isinstance(audio, bytes) else audio.open("rb")
        started = time.perf_counter()
        response = httpx.post(
            self.url + "/asr",
            data={"diarize": str(diarize).lower(), "language": "en"},
            files={"audio_file": ("audio", content)},
            timeout=REQUEST_TIMEOUT_S,
        )
        took_s = time.perf_counter() - started
        if response.status_code != 200 or "segments" not in response.json():
            raise RuntimeError(f"{self.side}: {response.status_code} {response.text[:300]}")
        return took_s


@contextmanager
def running(side: str, arguments: Sequence[str] = (), **settings: str) -> Iterator[Server]:
    """A ready server with the environment's settings and these, not warmed up. It stops after the
    block. `arguments`: of its command line.
    """
    port = free_port()
    module = MODULES[side]
    OUT.mkdir(parents=True, exist_ok=True)
    with _log(side).open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *module, *arguments, "--port", str(port)],
            cwd=Path(__file__).parent.parent,
            env=os.environ
            | {
                "TEMP_DIR": str(OUT / f"tmp-{port}"),
                "DATA_DIR": str(OUT / f"data-{port}"),
                "SHUTDOWN_DRAIN_SECONDS": "0",
                "JOIN_EQUAL_UPLOADS": "false",  # every request is work, as on the other side
            }
            | settings,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    server = Server(side, f"http://127.0.0.1:{port}", process)
    try:
        _wait_until_ready(server)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _log(side: str) -> Path:
    return OUT / f"{side.replace(' ', '-')}.log"


def _wait_until_ready(server: Server) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and server.process.poll() is None:
        try:
            if httpx.get(server.url + "/ready", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    log = _log(server.side).read_text()
    raise RuntimeError(f"the server of {server.side} did not start:\n{log[-3000:]}")
