"""/stream and /v1/realtime against clients that mean harm or make mistakes, and faults inside.

After each of them, the next stream hears what is said.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import psutil
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.support.faulty_server import BROKEN_SOUND
from tests.support.media import speech
from tests.support.paths import ROOT
from tests.support.server import Server, running_server
from tests.support.streams import (
    TEXT,
    Stream,
    address,
    bare_stream,
    event,
    frame,
    status,
    stream,
)
from tests.support.truth import normalize
from tests.support.waiting import PATIENCE_S, eventually

SHORT = speech("en_short")
SECOND = np.zeros(16_000, np.float32)
SAID = ["can", "you", "check", "the", "report", "the", "building", "is", "late"]
OTHER = "our-whisper"
HALF = "\ud800"  # of a surrogate pair: JSON can have it, UTF-8 cannot
REALTIME = "/v1/realtime"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("hostile")
    other = folder / OTHER
    other.symlink_to(ROOT / "app" / "demo" / "whisper")
    with running_server(
        folder,
        script=ROOT / "tests" / "support" / "faulty_server.py",
        ALLOWED_MODELS=f"demo, {other}",
        LIVE_MAX_STREAMS_PER_CLIENT=32,
        JOBS="false",
    ) as running:
        yield running


@pytest.fixture(autouse=True)
def _goes_on(server: Server) -> Iterator[None]:
    """The next stream is right, and nothing unforeseen was logged."""
    before = len(server.log())
    yield
    with stream(server, language="en") as client:
        client.say(SHORT)
        client.end()
    assert normalize(client.text()) == SAID
    eventually(lambda: server.get("/queue").json()["requests"] == [])
    assert "never retrieved" not in server.log()[before:]
    assert "Exception in ASGI" not in server.log()[before:]


def test_each_change_of_the_model_keeps_all_words(server: Server) -> None:
    """The sentences have no pause behind them: they end with the session of their model."""
    with stream(server, language="en", events=True) as client:
        for number in range(4):
            client.command("config", config={"model": (OTHER, "demo")[number % 2]})
            client.say(SHORT[: 16_000 * 3])
        client.end()
    assert client.code == 1000
    finals = client.all(event("final"))
    told = [word["word"] for final in finals for word in final["words"]]
    assert normalize(" ".join(told)) == SAID * 4
    assert normalize(client.text()) == SAID * 4
    starts = [word["start"] for final in finals for word in final["words"]]
    assert starts == sorted(starts)
    assert starts[-1] > 10


def test_changes_of_the_model_wait_for_each_other(server: Server) -> None:
    """Each begins a session, while the one before may still have much to do."""
    process = psutil.Process(server.process.pid)
    before, most = process.num_threads(), 0
    with stream(server, language="en") as client:
        for number in range(16):
            client.say(SHORT[8_000:16_000])
            client.command("config", config={"model": (OTHER, "demo")[number % 2]})
            client.wait(status("config_updated"), number + 1)
            most = max(most, process.num_threads())
        client.say(SHORT)
        client.end()
    assert normalize(client.text())[-len(SAID) :] == SAID
    assert most < before + 12


@pytest.mark.parametrize("path", ["/stream", REALTIME])
def test_a_text_that_is_too_large(server: Server, path: str) -> None:
    with connect(address(server, path), max_size=None) as websocket:
        client = Stream(websocket)
        with suppress(ConnectionClosed):
            websocket.send('{"type": "' + "x" * (15 << 20) + '"}')
        assert client.closed() == 1009


def test_many_values_are_not_parsed(server: Server) -> None:
    with realtime(server) as client:
        client.socket.send('{"type": "session.update", "session": [' + "[]," * 500_000 + "0]}")
        assert "large" in client.wait(kind("error"))["error"]["message"]


def test_a_client_that_does_not_read(server: Server) -> None:
    unknown = dict.fromkeys("abcdefghijk", 1)  # each is named in the answer
    text = json.dumps({"command": "config", "config": unknown}, separators=(",", ":"))
    command = frame(text.encode(), TEXT) * 1_000
    with bare_stream(server) as bare:
        bare.settimeout(1)
        with suppress(OSError):  # it has to wait, since nothing more is read
            while True:
                bare.sendall(command)
        eventually(lambda: server.get("/queue").json()["requests"] == [])  # it was given up
        bare.settimeout(PATIENCE_S)
        told = b""
        with suppress(ConnectionError):
            while data := bare.recv(1 << 20):
                told = told[-4096:] + data
    assert b"\x03\xf0The client does not read" in told[-200:]  # 1008


# -- mistakes in messages ------------------------------------------------------------------------


def kind(name: str) -> Any:
    return lambda message: message.get("type") == name


def realtime(server: Server) -> Any:
    return stream(server, REALTIME, type="session.update", session={})


def test_half_characters_are_echoed_or_refused(server: Server) -> None:
    fields = ["model", "language", "task", "encoding", "prompt", "hotwords", "overlap", HALF]
    with stream(server, **{HALF: 1, "model": HALF, "language": HALF, "prompt": HALF}) as client:
        client.wait(status("connected"))
        client.command(HALF)
        for number, name in enumerate(fields[:6]):
            client.command("config", config={name: HALF})
            client.wait(status("error"), 2 + number)
        client.command("config", config={HALF: 1})
        client.wait(status("config_updated"))
        client.say(SHORT)
        client.end()
    assert normalize(client.text()) == SAID
    with realtime(server) as client:
        wrong = [
            {"type": HALF},
            {"type": "session.update", "session": _transcription(model=HALF)},
            {"type": "session.update", "session": _transcription(prompt=HALF)},
            {"type": "session.update", "session": _transcription(keywords=[HALF])},
            {"type": "input_audio_buffer.append", "audio": HALF},
        ]
        for number, message in enumerate(wrong):
            client.socket.send(json.dumps({"event_id": f"{HALF}{number}", **message}))
            error = client.wait(kind("error"), number + 1)["error"]
            assert error["event_id"] == f"{HALF}{number}"
        client.socket.send(json.dumps({"type": "no", "event_id": "x" * 100_000}))
        error = client.wait(kind("error"), len(wrong) + 1)["error"]
        assert error["event_id"] is None


def _transcription(**fields: Any) -> dict[str, Any]:
    return {"type": "transcription", "audio": {"input": {"transcription": fields}}}


DEEP = '{"a":' * 900 + "1" + "}" * 900
VALUES = [
    "null", "true", "0", "-1", "1e999", "-1e999", "NaN", "Infinity", "1" * 4000, "9" * 5000,
    "16000.5", '""', '"\\u0000"', '"\\ud800"', '"en"', '"x"', '"demo"', "[]", "{}", "[null]",
    '["\\ud800"]', DEEP, "[" * 900 + "]" * 900, "[" * 100_000, '"' + "y" * 3000 + '"',
    '{"type": null}', '{"type": "audio/pcm"}', '{"type": "server_vad", "threshold": NaN}',
    '{"rate": 1e999, "type": "audio/pcm"}',
]  # fmt: skip
STREAM_FIELDS = [
    "model_size", "model", "language", "task", "encoding", "sample_rate", "use_context", "diarize",
    "prompt", "hotwords", "chunk_duration", "events", "resume_from_s", "overlap", "command",
    "config", "\\ud800", "",
]  # fmt: skip
SOUND_FIELDS = [
    "format", "transcription", "turn_detection", "noise_reduction", "input_audio_format",
    "input_audio_transcription",
]  # fmt: skip
INNER_FIELDS = [
    "type", "rate", "model", "language", "languages", "prompt", "keywords", "delay", "threshold",
    "prefix_padding_ms", "silence_duration_ms", "eagerness",
]  # fmt: skip
TYPES = [
    "session.update", "transcription_session.update", "input_audio_buffer.append",
    "input_audio_buffer.commit", "input_audio_buffer.clear", "response.create", "\\ud800",
]  # fmt: skip


def _stream_text(chance: random.Random) -> str:
    fields = ", ".join(
        f'"{chance.choice(STREAM_FIELDS)}": {chance.choice(VALUES)}'
        for _ in range(chance.randint(1, 4))
    )
    command = f'{{"command": "config", "config": {{{fields}}}}}'
    return chance.choice([f"{{{fields}}}", command, f"[{{{fields}}}]", f"{{{fields}"])


def _realtime_text(chance: random.Random) -> str:
    inner = ", ".join(
        f'"{chance.choice(INNER_FIELDS)}": {chance.choice(VALUES)}'
        for _ in range(chance.randint(1, 3))
    )

    def perhaps(value: str) -> str:
        return chance.choice([value, value, chance.choice(VALUES)])

    sound = f'"{chance.choice(SOUND_FIELDS)}": {perhaps(f"{{{inner}}}")}'
    audio = perhaps(f'{{"input": {{{sound}}}}}')
    session = perhaps(f'{{{sound}, "audio": {audio}}}')
    more = f'"{chance.choice(["event_id", "audio"])}": {chance.choice(VALUES)}'
    return f'{{"type": "{chance.choice(TYPES)}", {more}, "session": {session}}}'


SANE = {
    "model": "demo", "language": "en", "task": "transcribe", "prompt": "", "hotwords": "",
    "encoding": "float32", "sample_rate": 16_000,
}  # fmt: skip


@pytest.mark.parametrize(("path", "write"), [("/stream", _stream_text), (REALTIME, _realtime_text)])
def test_messages_of_a_fool(server: Server, path: str, write: Any) -> None:
    """Each is answered or has no effect; the stream goes on, and ends as it should."""
    chance = random.Random(20)
    with connect(address(server, path), max_size=None) as websocket:
        client = Stream(websocket)
        for _ in range(400):
            websocket.send(write(chance))
        assert websocket.ping().wait(PATIENCE_S)
        if path == "/stream":
            answered = len(client.all(status("config_updated")))
            client.command("config", config=SANE)
            client.wait(status("config_updated"), answered + 1)
            client.say(np.concatenate([SECOND, SHORT]))
            client.end()
            assert client.code == 1000
            assert normalize(client.text())[-len(SAID) :] == SAID
        else:
            client.socket.send('{"type": "nothing", "event_id": "last"}')
            client.wait(lambda m: (m.get("error") or {}).get("event_id") == "last")
    assert all("secret" not in json.dumps(message) for message in client.messages)


# -- faults inside -------------------------------------------------------------------------------


def test_a_session_that_breaks_says_so_and_goes_on(server: Server) -> None:
    with stream(server, language="en", events=True) as client:
        client.say(SHORT[: 16_000 * 2])
        client.socket.send(BROKEN_SOUND)
        assert "secret" not in client.wait(status("error"))["message"]
        client.say(np.concatenate([SECOND, SHORT]))
        client.end()
    assert client.code == 1000
    words = normalize(" ".join(final["text"] for final in client.all(event("final"))))
    assert words[:5] == SAID[:5]
    assert words[-len(SAID) :] == SAID


def test_a_session_that_breaks_again_and_again(server: Server) -> None:
    with stream(server, language="en") as client:
        with suppress(ConnectionClosed):
            for _ in range(200):
                client.socket.send(BROKEN_SOUND)
        assert client.closed() == 1011
    lines = [x for x in server.log().splitlines() if "a live session failed" in x]
    assert lines
    assert all("request_id" in line for line in lines)
