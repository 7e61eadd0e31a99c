"""The service as users start it, with the demo models."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx

from tests.support.forge import Forge, Forked
from tests.support.ports import free_port
from tests.support.remembering import REMEMBERED
from tests.support.truth import audio_of

START_TIMEOUT_S = 300  # a few seconds on a machine that does nothing else

# A client's environment must not change what the tests see.
CLEAN = (
    "ASR_", "HF_", "DIARIZ", "MODEL", "DEVICE", "MAX_", "SUBTITLE_", "PRELOAD", "DEFAULT_",
    "API_KEYS", "OPS_", "RATE_LIMIT_", "CORS_", "TRUSTED_", "FORWARDED_",
    "LOG_", "OTEL_", "JOIN_", "KEEPALIVE_",
    "TORCH_FORCE_", "WORD_ALIGNER", "ALIGN_", "URL_", "EGRESS_", "WEBHOOK_", "JOB",
    "AWS_", "SQS_", "WHISPER_", "NODE_API_",
)  # fmt: skip


RUN = "TESTS_RUN"  # the variable that names a folder for all processes of a run of the tests
COMMAND = ("-m", "app.cli")
# So narrow that nothing an attacker sends takes long.
LIMITS = {"MAX_DURATION_SECONDS": 30, "MAX_FILE_SIZE_MB": 4, "REQUEST_TIMEOUT_SECONDS": 60}
Process = subprocess.Popen[bytes] | Forked


@dataclass(frozen=True)
class Server:
    """A running service. `post` sends a file to /asr."""

    url: str
    process: Process
    folder: Path

    def post(
        self,
        file: Path | bytes,
        endpoint: str = "/asr",
        name: str = "audio.flac",
        fields: dict[str, str] | None = None,
        timeout_s: float = 600,
        **query: Any,
    ) -> httpx.Response:
        """`query` as query parameters, `fields` as form fields."""
        content = file.read_bytes() if isinstance(file, Path) else file
        return httpx.post(
            self.url + endpoint,
            params={key: str(value) for key, value in query.items()},
            data=fields,
            files={"audio_file": (name, content)},
            timeout=timeout_s,
        )

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=30)

    def temp_files(self) -> list[Path]:
        """Uploads and decoded audio that lie about."""
        return [p for p in (self.folder / "tmp").rglob("*") if p.is_file()]

    def mapped_audio(self) -> list[str]:
        """Decoded audio that the process has mapped; its files are unlinked at once."""
        maps = Path(f"/proc/{self.process.pid}/maps").read_text()
        return [line for line in maps.splitlines() if ".f32" in line]

    def log(self) -> str:
        return (self.folder / "log").read_text()


@cache
def _answer(server: Server, name: str) -> str:
    response = server.post(audio_of(name))
    assert response.status_code == 200, response.text
    return response.text


def heard(server: Server, name: str) -> Any:
    """What /asr answers without a parameter: asked once, for all tests that only read it."""
    return json.loads(_answer(server, name))


def server_environment(folder: Path, **settings: Any) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith((*CLEAN, RUN, REMEMBERED))}
    return {
        **clean,
        "ASR_MODEL": "demo",
        "PRELOAD_MODEL": "demo",
        "HF_HUB_OFFLINE": "1",
        "CACHE_DIR": str(folder / "cache"),
        "TEMP_DIR": str(folder / "tmp"),
        "DATA_DIR": str(folder / "data"),
        "SHUTDOWN_DRAIN_SECONDS": "0",
        "DECODE_WORKERS": "1",  # each is a process
        "JOIN_EQUAL_UPLOADS": "false",  # else, few of the tests' requests are computed
        **{key: str(value) for key, value in settings.items()},
    }


def remembered() -> dict[str, str]:
    """What makes a forked server remember, in a run of the tests."""
    return {key: value for key, value in os.environ.items() if key == REMEMBERED}


@cache
def forge() -> Forge:
    """One for all servers of a run of the tests, begun with the first."""
    folder = Path(os.environ.get(RUN) or tempfile.mkdtemp(prefix="forge-"))
    forge = Forge(server_environment(folder), folder)
    if RUN not in os.environ:
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(forge.close)
    return forge


@contextmanager
def running_server(
    folder: Path,
    program: Sequence[str] = (),
    *,
    script: Path | None = None,
    computing: bool = False,
    port: int | None = None,
    command: Sequence[str] = ("serve",),
    **settings: Any,
) -> Iterator[Server]:
    """The service with the demo models and these settings; `program`: started by itself, such as
    users start it (COMMAND), else forked, and runs `script` where there is one. Models of one that
    is forked answer what they answered before in this run of the tests (`remembering.py`), unless
    it is to be `computing`. `command`: of `whisperx-asr`.
    """
    port = port or free_port()
    folder.mkdir(parents=True, exist_ok=True)
    arguments = [*command, "--host", "127.0.0.1", "--port", str(port)]
    environment = server_environment(folder, **settings) | ({} if computing else remembered())
    process: Process
    if program:
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, *program, *arguments],
                cwd=folder,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
    else:
        process = forge().start(arguments, folder, environment, str(script or ""))
    server = Server(f"http://127.0.0.1:{port}", process, folder)
    try:
        wait_until_ready(server)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def ended_command(
    folder: Path, *arguments: str, timeout_s: float = 180, fresh: bool = False, **settings: Any
) -> subprocess.CompletedProcess[str]:
    """`whisperx-asr` with these arguments, once it is over: forked, or as users start it."""
    environment = server_environment(folder, **settings)
    if fresh:
        return subprocess.run(
            [sys.executable, *COMMAND, *arguments],
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    environment |= remembered()
    code = forge().start([*arguments], folder, environment, errors="errors").wait(timeout_s)
    out, errors = ((folder / name).read_text() for name in ("log", "errors"))
    return subprocess.CompletedProcess(arguments, code, out, errors)


def ended_start(
    folder: Path, timeout_s: float = 60, **settings: Any
) -> subprocess.CompletedProcess[str]:
    """What a start says that ends by itself. Another service may run on the default port."""
    settings = {"PORT": free_port(), **settings}
    return ended_command(folder, "serve", timeout_s=timeout_s, **settings)


def wait_until_ready(server: Server) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            break
        try:
            if httpx.get(server.url + "/ready", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"the service did not start:\n{server.log()[-3000:]}")
