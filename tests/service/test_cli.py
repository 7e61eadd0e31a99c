"""The console script as users type it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from app import __version__
from tests.support.paths import DEMO, ROOT
from tests.support.server import Server, ended_command
from tests.support.truth import audio_of, truth_of

COMMANDS = ["serve", "demo", "download", "settings", "health"]


def run(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return ended_command(folder, *arguments, fresh=True, **settings)


def test_the_script_is_installed() -> None:
    script = Path(sys.executable).parent / "whisperx-asr"
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["whisperx-asr", __version__]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_is_good_everywhere(tmp_path: Path, command: str) -> None:
    done = run(tmp_path, *([command] if command else []), "--help")
    assert done.returncode == 0
    assert "usage: whisperx-asr" in done.stdout
    if not command:
        assert all(name in done.stdout for name in COMMANDS)


def test_the_demo(tmp_path: Path) -> None:
    """What `make demo` runs: nothing of the caller's environment has a say in it."""
    (tmp_path / ".env").write_text("ASR_MODEL=large-v3\nPORT=1\nDEFAULT_DIALECT=webservice\n")
    others = {"DIARIZATION_MODEL": "nobody/nothing", "API_KEYS": "a-key"}
    done = run(tmp_path, "demo", ASR_MODEL="large-v3", **others)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    spoken = [line for line in lines if " SPEAKER_0" in line]
    said = [s["text"] for s in truth_of_demo()["sentences"]]
    assert [line.split(maxsplit=4)[4] for line in spoken] == said
    assert {line.split()[3] for line in spoken} == {"SPEAKER_00", "SPEAKER_01"}
    assert "http://localhost:9000/docs" in done.stdout


def truth_of_demo() -> dict[str, list[dict[str, str]]]:
    truth: dict[str, list[dict[str, str]]] = json.loads((DEMO / "conversation.json").read_text())
    return truth


def test_the_demo_of_another_file(tmp_path: Path) -> None:
    done = ended_command(tmp_path, "demo", str(audio_of("es_short")))
    assert done.returncode == 0, done.stderr
    assert truth_of("es_short")["sentences"][0]["text"] in done.stdout
    missing = run(tmp_path, "demo", "nothing.wav")
    assert missing.returncode == 2
    assert missing.stderr == "whisperx-asr: nothing.wav is not a file.\n"


def test_download(tmp_path: Path) -> None:
    there = ended_command(tmp_path, "download", "demo", "--align", "en,es", "--diarization")
    assert there.returncode == 0, there.stderr
    assert [line.split(":")[0] for line in there.stdout.splitlines()] == [
        "demo",
        "aligner demo-en",
        "aligner demo-es",
        f"diarizer {DEMO / 'diarization'}",
    ]
    (tmp_path / "errors").unlink()
    missing = ended_command(tmp_path, "download", "tiny")
    assert missing.returncode == 1
    assert "tiny cannot be downloaded" in missing.stderr.splitlines()[-1]
    assert run(tmp_path, "download").returncode == 2


def test_health(tmp_path: Path, server: Server) -> None:
    well = run(tmp_path, "health", "--url", server.url)
    assert well.returncode == 0
    assert '"status":"healthy"' in well.stdout
    gone = run(tmp_path, "health", PORT="1")
    assert gone.returncode == 1
    assert gone.stderr.startswith("whisperx-asr: http://127.0.0.1:1 does not answer")


class Answering(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *args: Any) -> None:
        """Quiet."""


class OverIpv6(ThreadingHTTPServer):
    address_family = socket.AF_INET6


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
@pytest.mark.parametrize("host", ["::", "::1"])
def test_health_over_ipv6(tmp_path: Path, host: str) -> None:
    """A service on `::` listens to nothing else."""
    server = OverIpv6(("::1", 0), Answering)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        well = run(tmp_path, "health", HOST=host, PORT=str(server.server_port))
    finally:
        server.shutdown()
        server.server_close()
    assert (well.returncode, well.stdout) == (0, "ok\n"), well.stderr


def test_health_of_an_address_that_is_none(tmp_path: Path) -> None:
    done = run(tmp_path, "health", HOST="fe80::1%no such", PORT="1")
    assert done.returncode == 1
    assert done.stderr.startswith("whisperx-asr: http://[fe80::1%no such]:1 does not answer")


def test_settings_are_the_example(tmp_path: Path) -> None:
    assert run(tmp_path, "settings").stdout == (ROOT / ".env.example").read_text()


def test_settings_are_the_page(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    assert run(tmp_path, "settings", "--markdown").stdout == page


def test_ray_without_its_extra(tmp_path: Path) -> None:
    missing = tmp_path / "ray"
    missing.mkdir()
    (missing / "__init__.py").write_text("raise ModuleNotFoundError(name='ray')")
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = ended_command(tmp_path, "serve", "--ray", fresh=True, PYTHONPATH=paths)
    assert done.returncode == 2
    assert "pip install 'whisperx-asr-service[ray]'" in done.stderr
    assert "Traceback" not in done.stderr
