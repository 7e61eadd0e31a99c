"""/v1/realtime: OpenAI's Realtime transcription, spoken by the official SDK."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from openai import OpenAI
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from app.audio.stream import ALAW, ULAW
from tests.support.realtime import KEY, RATE, at_rate, pcm, said
from tests.support.server import Server, running_server
from tests.support.truth import normalize, speaker_accuracy, truth_of, word_error_rate

PREFIX = "conversation.item.input_audio_transcription."
VAD = {"type": "server_vad", "silence_duration_ms": 700}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("realtime")
    with running_server(folder, API_KEYS=f"me:{KEY}", JOBS="false") as running:
        yield running


def companded(name: str, table: np.ndarray[Any, Any]) -> bytes:
    order = np.argsort(table)
    places = np.searchsorted(table[order], at_rate(name, 8_000)).clip(0, 255)
    return order[places].astype(np.uint8).tobytes()


def chunks(data: bytes) -> Iterator[str]:
    for at in range(0, len(data), 4800):
        yield base64.b64encode(data[at : at + 4800]).decode()


def hear(
    server: Server, data: bytes, sound: dict[str, Any], commit: bool = False
) -> list[dict[str, Any]]:
    """All events until the first transcript, by the official SDK."""
    client = OpenAI(base_url=f"{server.url}/v1", api_key=KEY)
    with client.realtime.connect(extra_query={"intent": "transcription"}) as connection:
        session: Any = {"type": "transcription", "audio": {"input": sound}}
        connection.session.update(session=session)
        for audio in chunks(data):
            connection.input_audio_buffer.append(audio=audio)
        if commit:
            connection.input_audio_buffer.commit()
        events = []
        for event in connection:
            events.append(event.model_dump())
            assert event.type != "error", event
            if event.type == f"{PREFIX}completed":
                break
        return events


def of(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in events if event["type"] == kind]


def test_the_sdk_hears_words_and_their_transcript(server: Server) -> None:
    sound = {
        "format": {"type": "audio/pcm", "rate": RATE},
        "transcription": {"model": "gpt-4o-transcribe", "language": "en"},
        "turn_detection": VAD,
    }
    events = hear(server, pcm("en_short"), sound)
    [completed] = of(events, f"{PREFIX}completed")
    assert word_error_rate(said("en_short"), completed["transcript"]) == 0
    deltas = "".join(event["delta"] for event in of(events, f"{PREFIX}delta"))
    assert len(normalize(deltas)) == len(said("en_short"))
    [started] = of(events, "input_audio_buffer.speech_started")
    first_s = truth_of("en_short")["words"][0]["start"]
    assert abs(started["audio_start_ms"] / 1000 - first_s) < 0.6
    assert completed["item_id"] == started["item_id"]
    assert completed["usage"]["type"] == "duration"
    names = [event["type"] for event in events]
    assert names[:2] == ["session.created", "session.updated"]
    assert names.index("input_audio_buffer.committed") < names.index("conversation.item.added")


def test_the_client_may_say_where_an_utterance_ends(server: Server) -> None:
    sound = {"transcription": {"model": "whisper-1"}, "turn_detection": None}
    events = hear(server, pcm("en_short"), sound, commit=True)
    [completed] = of(events, f"{PREFIX}completed")
    assert word_error_rate(said("en_short"), completed["transcript"]) == 0
    assert not of(events, "input_audio_buffer.speech_started")
    assert len(of(events, "input_audio_buffer.committed")) == 1


@pytest.mark.parametrize(("kind", "table"), [("audio/pcmu", ULAW), ("audio/pcma", ALAW)])
def test_telephones(server: Server, kind: str, table: np.ndarray[Any, Any]) -> None:
    sound = {"format": {"type": kind}, "turn_detection": None}
    events = hear(server, companded("en_short", table), sound, commit=True)
    [completed] = of(events, f"{PREFIX}completed")
    assert word_error_rate(said("en_short"), completed["transcript"]) <= 0.25


def test_who_speaks(server: Server) -> None:
    """Two people in one utterance, as the client has it."""
    sound = {
        "transcription": {"model": "gpt-4o-transcribe-diarize", "language": "en"},
        "turn_detection": None,
    }
    until_s = 16.5
    events = hear(server, pcm("en_two")[: round(2 * RATE * until_s)], sound, commit=True)
    segments = of(events, f"{PREFIX}segment")
    truth = [w for w in truth_of("en_two")["words"] if w["end"] < until_s]
    words = [
        {"word": word, "speaker": segment["speaker"]}
        for segment in segments
        for word in segment["text"].split()
    ]
    assert speaker_accuracy(truth, words) >= 0.95
    assert {segment["speaker"] for segment in segments} == {"SPEAKER_00", "SPEAKER_01"}
    assert len({segment["id"] for segment in segments}) == len(segments)
    times = [t for segment in segments for t in (segment["start"], segment["end"])]
    assert times == sorted(times)
    [completed] = of(events, f"{PREFIX}completed")
    assert completed["item_id"] == segments[0]["item_id"]
    assert word_error_rate(completed["transcript"], [w["word"] for w in words]) == 0


def socket(server: Server, key: str = KEY) -> Any:
    """As a page opens it, which cannot set headers."""
    address = server.url.replace("http", "ws", 1) + "/v1/realtime?intent=transcription"
    protocols = ["realtime", f"openai-insecure-api-key.{key}", "openai-beta.realtime-v1"]
    return connect(address, subprotocols=protocols)  # type: ignore[arg-type]


def test_the_beta_session_of_a_page(server: Server) -> None:
    with socket(server) as websocket:
        assert websocket.subprotocol == "realtime"
        assert json.loads(websocket.recv(60))["type"] == "transcription_session.created"
        session = {
            "input_audio_format": "pcm16",
            "input_audio_transcription": {"model": "whisper-1", "language": "en"},
            "turn_detection": VAD,
        }
        websocket.send(json.dumps({"type": "transcription_session.update", "session": session}))
        updated = json.loads(websocket.recv(60))
        assert updated["type"] == "transcription_session.updated"
        assert updated["session"]["input_audio_format"] == "pcm16"
        for audio in chunks(pcm("en_short")):
            websocket.send(json.dumps({"type": "input_audio_buffer.append", "audio": audio}))
        names = []
        while f"{PREFIX}completed" not in names:
            event = json.loads(websocket.recv(120))
            names.append(event["type"])
        assert "conversation.item.created" in names
        assert word_error_rate(said("en_short"), event["transcript"]) == 0


def test_a_model_for_live_speech_tells_words_before_the_client_commits(server: Server) -> None:
    """Its clients leave out turn detection, which it does not have at OpenAI."""
    transcription = {"model": "gpt-realtime-whisper", "languages": ["en"], "delay": "low"}
    session = {"type": "transcription", "audio": {"input": {"transcription": transcription}}}
    with socket(server) as websocket:
        websocket.send(json.dumps({"type": "session.update", "session": session}))
        websocket.recv(60)
        updated = json.loads(websocket.recv(60))["session"]
        assert updated["turn_detection"] is None
        assert updated["input_audio_transcription"]["language"] == "en"
        silence, speech = bytes(2 * RATE * 5), pcm("en_short")
        for audio in chunks(silence + speech):
            websocket.send(json.dumps({"type": "input_audio_buffer.append", "audio": audio}))
        delta = json.loads(websocket.recv(120))
        assert delta["type"] == f"{PREFIX}delta"
        websocket.send(json.dumps({"type": "input_audio_buffer.commit"}))
        while (event := json.loads(websocket.recv(120)))["type"] != f"{PREFIX}completed":
            assert event["type"] != "error"
        assert event["item_id"] == delta["item_id"]
        assert word_error_rate(said("en_short"), event["transcript"]) == 0
        assert event["usage"]["seconds"] < 3.5 + 1 + 1  # not the silence before


def test_mistakes_are_told_and_the_stream_goes_on(server: Server) -> None:
    wrong: list[Any] = [
        "no JSON", "[]", {"no": "type"}, {"type": "response.create"},
        {"type": "input_audio_buffer.append"},
        {"type": "input_audio_buffer.append", "audio": "%%%"},
        {"type": "input_audio_buffer.commit"},
        {"type": "session.update", "session": {"audio": {"input": {"format": {"type": "mp3"}}}}},
        {"type": "session.update", "session": {"audio": {"input": {"turn_detection": 7}}}},
        {"type": "session.update", "session": {"audio": 1}},
        {"type": "session.update", "session": [1]},
        {"type": "transcription_session.update", "session": {"input_audio_format": []}},
    ]  # fmt: skip
    with socket(server) as websocket:
        websocket.recv(60)
        for message in wrong:
            websocket.send(message if isinstance(message, str) else json.dumps(message))
            answer = json.loads(websocket.recv(60))
            assert answer["type"] == "error", (message, answer)
            assert answer["error"]["message"]
        websocket.send(json.dumps({"type": "input_audio_buffer.clear"}))
        assert json.loads(websocket.recv(60))["type"] == "input_audio_buffer.cleared"
    assert httpx.get(f"{server.url}/health", timeout=30).status_code == 200


def test_a_wrong_key_opens_nothing(server: Server) -> None:
    with pytest.raises(InvalidStatus) as refused, socket(server, "sk-other"):
        pass
    assert refused.value.response.status_code == 401


def test_a_commit_of_silence_is_answered_and_the_session_goes_on(server: Server) -> None:
    silence = base64.b64encode(bytes(RATE * 2)).decode()
    with socket(server) as websocket:
        websocket.recv(60)
        websocket.send(json.dumps({"type": "input_audio_buffer.append", "audio": silence}))
        commit = {"type": "input_audio_buffer.commit", "event_id": "mine"}
        websocket.send(json.dumps(commit))
        answer = json.loads(websocket.recv(60))
        assert answer["type"] == "error"
        assert answer["error"]["code"] == "input_audio_buffer_commit_empty"
        assert answer["error"]["event_id"] == "mine"
        for audio in chunks(pcm("en_short")):
            websocket.send(json.dumps({"type": "input_audio_buffer.append", "audio": audio}))
        texts = []
        while len(normalize(" ".join(texts))) < len(said("en_short")):
            event = json.loads(websocket.recv(120))
            assert event["type"] != "error"
            if event["type"] == f"{PREFIX}completed":
                texts.append(event["transcript"])
        assert word_error_rate(said("en_short"), " ".join(texts)) <= 0.25
