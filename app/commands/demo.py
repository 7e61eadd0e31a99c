"""`whisperx-asr demo`: the service with the embedded models, asked once over HTTP."""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from app.config.environment import subprocess_environment
from app.domain.errors import ConfigurationError

START_TIMEOUT_S = 180.0


def run(options: argparse.Namespace) -> int:
    if not options.file.is_file():
        raise ConfigurationError(f"{options.file} is not a file.")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory(prefix="whisperx-asr-demo-") as folder:
        log_path = Path(folder) / "log"
        environment = subprocess_environment(
            ASR_MODEL="demo",
            PRELOAD_MODEL="demo",
            DIARIZATION_MODEL="demo",
            HF_HUB_OFFLINE="1",
            API_KEYS="",
            API_KEYS_FILE="",
            RATE_LIMIT_AUDIO_MINUTES_PER_HOUR="",
            CACHE_DIR=folder,
            TEMP_DIR=f"{folder}/tmp",
            DATA_DIR=f"{folder}/data",
            SHUTDOWN_DRAIN_SECONDS="0",
        )
        command = [sys.executable, "-m", "app.cli", "serve", "--host", "127.0.0.1"]
        print("Starting the service with the embedded demo models ...", flush=True)
        with log_path.open("w") as log:
            # in its own folder, so that the caller's .env is not read
            server = subprocess.Popen(
                [*command, "--port", str(port)], cwd=folder, env=environment,
                stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
            try:
                _wait_until_ready(url, server)
                started = time.monotonic()
                body = _post(url, options.file)
                _print_transcript(body, time.monotonic() - started)
            except ConfigurationError:
                print(log_path.read_text(), file=sys.stderr)
                raise
            finally:
                server.terminate()
                server.wait()
    print("\nTo use the service run `make serve` and open")
    print("http://localhost:9000/docs")
    return 0


def free_port() -> int:
    """A free port on the loopback address."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _wait_until_ready(url: str, server: subprocess.Popen[bytes]) -> None:
    import httpx

    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise ConfigurationError("The service failed to start:")
        try:
            if httpx.get(f"{url}/ready", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise ConfigurationError("The service did not become ready:")


def _post(url: str, path: Path) -> dict[str, Any]:
    import httpx

    print(f"POST {url}/asr  {path.name}", flush=True)
    with path.open("rb") as file:
        response = httpx.post(f"{url}/asr", files={"audio_file": file}, timeout=600)
    if response.status_code != 200:
        raise ConfigurationError(f"The service answered {response.status_code}: {response.text}")
    body: dict[str, Any] = response.json()
    return body


def _print_transcript(body: dict[str, Any], took_s: float) -> None:
    print()
    for segment in body["segments"]:
        start, end = (_clock(segment[edge]) for edge in ("start", "end"))
        speaker = segment.get("speaker", "")
        print(f"{start} - {end}  {speaker:10}  {segment['text'].strip()}")
    duration_s = body["duration"]
    print(
        f"\n{duration_s:.1f} s of audio in {took_s:.1f} s, language {body['language']}, "
        f"{len(body['word_segments'])} words, {len(body.get('speakers', []))} speakers"
    )
    for warning in body.get("warnings", []):
        print(f"warning: {warning}")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes):02d}:{rest:05.2f}"
