"""stream=true on /asr: the transcript while it comes about, then the whole of it."""

from __future__ import annotations

import signal
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.events import stream, streaming
from tests.support.media import FORMATS, encode, speech
from tests.support.paths import ROOT
from tests.support.server import Server, running_server
from tests.support.truth import audio_of, truth_of, word_error_rate
from tests.support.waiting import eventually

HELD = ROOT / "tests" / "support" / "held_server.py"
LONG = audio_of("en_long")


def plain(body: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key != "warnings"}


@pytest.mark.parametrize(("name", "diarize"), [("en_two", True), ("en_three", False)])
def test_the_events_are_the_answer_in_parts(server: Server, name: str, diarize: bool) -> None:
    told = stream(server, audio_of(name), diarize=diarize)
    whole = server.post(audio_of(name), diarize=diarize).json()
    assert told[-1].name == "result"
    assert plain(told[-1].data) == plain(whole)
    segments = [event.data for event in told if event.name == "segment"]
    assert segments == whole["segments"]
    texts = [event.data for event in told if event.name == "text"]
    assert len(texts) > 1, "of several chunks"
    spoken = [w["word"] for w in truth_of(name)["words"]]
    assert word_error_rate(spoken, " ".join(t["text"] for t in texts)) <= 0.02
    assert all(a["end"] <= b["start"] + 0.001 for a, b in pairwise(texts))
    progress = [event.data["progress"] for event in told if event.name == "progress"]
    assert progress == sorted(progress)
    assert progress[-1] == 1.0
    if diarize:
        assert {s["speaker"] for s in segments} == {s["speaker"] for s in whole["speakers"]}


def test_words_as_asked_for(server: Server) -> None:
    told = stream(server, audio_of("en_short"), word_timestamps="false")
    assert all("words" not in e.data for e in told if e.name == "segment")
    assert told[-1].data["word_segments"] == []


def test_no_speech(server: Server) -> None:
    silence = encode(FORMATS["flac"], (0, speech("en_short") * 0))
    told = stream(server, silence)
    assert {event.name for event in told} <= {"progress", "result"}
    assert told[-1].data["segments"] == []


def test_headers(server: Server) -> None:
    with streaming(server, audio_of("en_short")) as (response, events):
        list(events)
    assert response.headers["asr-engine"] == "whisperx"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-accel-buffering"] == "no"
    assert response.headers["x-request-id"]


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({"output_format": "srt"}, 422),
        ({"stream": "perhaps"}, 422),
        ({"model": "nonsense"}, 422),
        ({"language": "xx"}, 422),
        ({"model": "large-v3"}, 503),
    ],
)
def test_what_fails_at_once_has_its_own_status(
    server: Server, form: dict[str, str], status: int
) -> None:
    with streaming(server, audio_of("en_short"), **form) as (response, _):
        assert response.status_code == status
        assert "detail" in response.read().decode()
    eventually(lambda: server.temp_files() == [])


def test_a_file_that_cannot_be_decoded(server: Server) -> None:
    with streaming(server, b"no sound at all") as (response, _):
        assert response.status_code == 400
    assert stream(server, audio_of("en_short"))[-1].name == "result"


def test_the_webservice_dialect_knows_no_streams(server: Server) -> None:
    response = server.post(audio_of("en_short"), output="json", stream="true")
    assert response.headers["content-type"] == "application/json"
    assert isinstance(response.json()["text"], str)


def test_a_stream_that_is_cancelled_says_so(piecemeal_server: Server) -> None:
    with streaming(piecemeal_server, LONG) as (response, events):
        next(e for e in events if e.name == "text")
        request_id = response.headers["x-request-id"]
        assert httpx.delete(f"{piecemeal_server.url}/queue/{request_id}").status_code == 204
        rest = list(events)
    assert rest[-1].name == "error"
    assert rest[-1].data == {"detail": "The request was cancelled.", "status": 410}
    eventually(lambda: piecemeal_server.get("/queue").json()["requests"] == [])


def test_a_stream_that_nobody_reads_any_more_frees_its_place(piecemeal_server: Server) -> None:
    with streaming(piecemeal_server, LONG) as (response, events):
        next(e for e in events if e.name == "text")
        assert piecemeal_server.get("/queue").json()["requests"]
        request_id = response.headers["x-request-id"]
    eventually(lambda: piecemeal_server.get("/queue").json()["requests"] == [])
    eventually(lambda: piecemeal_server.temp_files() == [])
    assert stream(piecemeal_server, audio_of("en_short"))[-1].name == "result"

    def lines() -> list[str]:
        log = piecemeal_server.log().splitlines()
        return [x for x in log if f"request_id={request_id}" in x and "outcome=" in x]

    eventually(lines)
    [line] = lines()
    assert "outcome=cancelled" in line


def test_a_stream_that_is_cut_short_says_why(tmp_path: Path) -> None:
    """By its time limit, which passes while the process stands still, and by the end of it all."""
    settings = {"REQUEST_TIMEOUT_SECONDS": 20, "SHUTDOWN_GRACE_SECONDS": 1}
    (tmp_path / "hold-diarizer").touch()
    with running_server(tmp_path, script=HELD, **settings) as server:
        for status in (504, 503):
            with streaming(server, LONG, diarize=True) as (_, events):
                next(e for e in events if e.name == "text")
                if status == 503:
                    server.process.send_signal(signal.SIGTERM)
                else:
                    server.process.send_signal(signal.SIGSTOP)
                    time.sleep(settings["REQUEST_TIMEOUT_SECONDS"])
                    server.process.send_signal(signal.SIGCONT)
                last = list(events)[-1]
            assert last.name == "error"
            assert last.data["status"] == status
        (tmp_path / "hold-diarizer").unlink()
        eventually(lambda: server.temp_files() == [])
        assert server.process.wait(60) == 0
        assert "Traceback" not in server.log()


def test_a_slow_reader_holds_no_place(server: Server) -> None:
    """What is still to be sent needs neither the upload nor a place in the queue."""
    with streaming(server, audio_of("en_two")) as (_, events):
        eventually(lambda: server.get("/queue").json()["requests"] == [])
        eventually(lambda: server.temp_files() == [])
        assert list(events)[-1].name == "result"
