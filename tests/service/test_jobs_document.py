"""What docs/jobs.md shows is true: its commands against a running service, its receivers."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from app.jobs.signing import STANDARD, signed_headers
from tests.support.curl import curl_program
from tests.support.paths import ROOT
from tests.support.ports import free_port
from tests.support.server import Server
from tests.support.truth import audio_of, normalize, truth_of
from tests.support.waiting import eventually

DOCUMENT = ROOT / "docs" / "jobs.md"
SHOWN_RECORDING = "app/demo/conversation.flac"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT.read_text(), re.M | re.S)


def test_the_commands_work(server: Server) -> None:
    """Those that need no bucket, in the order in which they are shown."""
    curl_program()
    shown = [block for block in _blocks("sh") if "localhost" in block and "/enqueue" not in block]
    assert len(shown) >= 4
    script = "\n".join(shown).replace("http://localhost:9000", server.url)
    script = script.replace(SHOWN_RECORDING, str(audio_of("en_short")))
    done = subprocess.run(
        ["bash", "-euc", f"{script}\ncurl -s {server.url}/result/$id"],  # the events have ended
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "event: done" in done.stdout
    result = json.loads(done.stdout[done.stdout.rindex('{"task_id"') :])
    assert result["status"] == "done"
    said = " ".join(sentence["text"] for sentence in truth_of("en_short")["sentences"])
    assert normalize(result["full_text"]) == normalize(said)


@pytest.mark.parametrize("language", ["python", "js"])
def test_the_receivers_check_signatures(tmp_path: Path, language: str) -> None:
    [code] = [block for block in _blocks(language) if "webhook" in block]
    with _receiver(tmp_path, language, code) as url:
        body = b'{"type": "transcription.completed", "data": {"task_id": "\xc3\xa4"}}'
        now = time.time()
        signed = signed_headers(STANDARD, SECRET, "msg_1", body, now)
        assert httpx.post(url, content=body, headers=signed).status_code == 204
        assert httpx.post(url, content=body + b" ", headers=signed).status_code == 401
        assert httpx.post(url, content=body).status_code == 401
        old = signed_headers(STANDARD, SECRET, "msg_1", body, now - 3600)
        assert httpx.post(url, content=body, headers=old).status_code == 401
        other = signed_headers(STANDARD, "another secret", "msg_1", body, now)
        assert httpx.post(url, content=body, headers=other).status_code == 401


@contextmanager
def _receiver(folder: Path, language: str, code: str) -> Iterator[str]:
    program = {"python": sys.executable, "js": shutil.which("node")}[language]
    if program is None:
        pytest.skip("no node here")
    assert SECRET.removeprefix("whsec_") in code
    port = free_port()
    file = folder / ("receiver.py" if language == "python" else "receiver.mjs")
    file.write_text(code.replace("8000", str(port)))
    process = subprocess.Popen([program, file], stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}/"
    try:
        eventually(lambda: _listens(url))
        yield url
    finally:
        process.kill()
        process.wait()


def _listens(url: str) -> bool:
    try:
        httpx.get(url, timeout=5)
    except httpx.ConnectError:
        return False
    except httpx.TransportError:
        return True
    return True
