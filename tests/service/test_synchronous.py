"""The streaming service's `POST /transcribe`, as its users call it, where neither jobs nor streams
are served.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from app.api.jobs.router import ADDRESSES, PREFIXES, TURNED_OFF
from app.api.live import refusals as live
from tests.support.curl import curl_program
from tests.support.media import FORMATS, encode, speech
from tests.support.ports import free_port
from tests.support.server import Server, ended_start, running_server
from tests.support.streams import address as stream_address
from tests.support.truth import audio_of, truth_of, word_error_rate


@pytest.fixture(scope="module")
def synchronous(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`base` is a name of the demo model here, and there are neither jobs nor streams."""
    settings = {
        "JOBS": "false",
        "LIVE_MAX_STREAMS": 0,
        "ALLOWED_MODELS": "demo",
        "OPENAI_MODELS": '{"base": "demo"}',
    }
    with running_server(tmp_path_factory.mktemp("synchronous"), **settings) as server:
        yield server


def send(server: Server, *form: tuple[str, Any], **query: str) -> httpx.Response:
    """The fields of the form in their order."""
    parts = [(name, value if isinstance(value, tuple) else (None, value)) for name, value in form]
    return httpx.post(f"{server.url}/transcribe", params=query, files=parts, timeout=300)


def file(content: bytes | None = None) -> tuple[str, tuple[str, bytes]]:
    return "file", ("audio.flac", content or audio_of("en_short").read_bytes())


def test_the_documented_command(synchronous: Server) -> None:
    curl = curl_program()
    (synchronous.folder / "audio.wav").write_bytes(encode(FORMATS["wav"], (0, speech("en_short"))))
    command = [curl, "-sS", "-X", "POST", "-F", "file=@audio.wav", "-F", "model_size=base"]
    command += ["-F", "language=en", f"{synchronous.url}/transcribe"]
    done = subprocess.run(command, cwd=synchronous.folder, capture_output=True, check=True)
    body = httpx.Response(200, content=done.stdout).json()
    assert list(body) == [
        "text", "language", "language_probability", "segments", "processing_time",
        "total_processing_time",
    ]  # fmt: skip
    said = [sentence["text"] for sentence in truth_of("en_short")["sentences"]]
    assert word_error_rate(" ".join(said), body["text"]) == 0
    assert body["language"] == "en"
    assert body["language_probability"] == 1.0
    assert [segment["id"] for segment in body["segments"]] == list(range(len(said)))
    for segment, sentence in zip(body["segments"], truth_of("en_short")["sentences"], strict=True):
        assert segment.keys() == {"id", "text", "start", "end"}
        assert segment["start"] == pytest.approx(sentence["start"], abs=0.3)
    assert 0 < body["processing_time"] <= body["total_processing_time"]


def test_its_parameters_come_in_any_order_and_in_the_query(synchronous: Server) -> None:
    for form, query in (
        ([file(), ("model_size", "demo")], {}),
        ([("model_size", "demo"), ("task", "transcribe"), file()], {}),
        ([file()], {"model_size": "openai/whisper-base"}),
    ):
        answer = send(synchronous, *form, **query)
        assert answer.status_code == 200, answer.text
        assert answer.json()["language"] == "en"
        assert answer.json()["language_probability"] is None, "detected; how surely is not known"
        assert answer.headers["Content-Type"] == "application/json"


def test_mistakes(synchronous: Server) -> None:
    for form, query, status, what in (
        ([file(), ("model_size", "huge")], {}, 422, "'huge' is not offered"),
        ([file()], {"model_size": "huge"}, 422, "'huge' is not offered"),
        ([file(), ("model_size", "base"), ("task", "sing")], {}, 422, "task"),
        ([file(), ("model_size", "base"), ("language", "xx-klingon")], {}, 422, "language"),
        ([("model_size", "base")], {}, 422, "file"),
        ([file(b"no media"), ("model_size", "base")], {}, 400, "decoded"),
    ):
        refused = send(synchronous, *form, **query)
        assert refused.status_code == status, refused.text
        assert what in refused.json()["error"]
        assert refused.json()["detail"] == refused.json()["error"]
    assert send(synchronous, file(), ("model_size", "base")).status_code == 200


def test_a_service_without_jobs_says_so(synchronous: Server) -> None:
    for address, method in ADDRESSES.items():
        for prefix in PREFIXES:
            path = prefix + address.replace("{task_id}", "x")
            answer = httpx.request(method, synchronous.url + path)
            assert answer.status_code == 404, path
            assert answer.json()["detail"] == TURNED_OFF
    assert send(synchronous, file()).status_code == 404
    assert not (synchronous.folder / "data").exists()
    assert "/transcribe" not in synchronous.get("/openapi.json").text


@pytest.mark.parametrize("path", live.ADDRESSES)
def test_a_service_without_streams_says_so(synchronous: Server, path: str) -> None:
    plain = synchronous.get(path)
    assert (plain.status_code, plain.json()["detail"]) == (404, live.TURNED_OFF)
    with pytest.raises(InvalidStatus) as refused, connect(stream_address(synchronous, path)):
        pass
    assert refused.value.response.status_code == 404
    assert live.TURNED_OFF in (refused.value.response.body or b"").decode()
    assert send(synchronous, file(), ("model_size", "base")).status_code == 200


def test_home_assistant_needs_streams(tmp_path: Path) -> None:
    done = ended_start(tmp_path, LIVE_MAX_STREAMS=0, WYOMING_PORT=free_port())
    assert done.returncode != 0
    assert "LIVE_MAX_STREAMS is 0" in done.stdout + done.stderr
