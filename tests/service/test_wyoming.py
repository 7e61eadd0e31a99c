"""Wyoming: the protocol of Home Assistant, spoken by the client of its own package."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import httpx
import numpy as np
import pytest
from wyoming.asr import Transcribe, Transcript, TranscriptChunk
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming.ping import Ping, Pong

from tests.support.media import speech
from tests.support.ports import free_port
from tests.support.server import Server, running_server
from tests.support.truth import normalize, truth_of, word_error_rate

T = TypeVar("T")
NAME, RATE = "en_short", 16_000
TIMEOUT_S = 120.0


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("wyoming")
    with running_server(folder, WYOMING_PORT=port, JOBS="false") as server:
        yield server


def said() -> list[str]:
    return [word["word"] for word in truth_of(NAME)["words"]]


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(work, TIMEOUT_S))


def sound(rate: int = RATE, channels: int = 1) -> bytes:
    samples = speech(NAME)
    times = np.arange(len(samples) * rate // RATE) * RATE / rate
    louder = np.interp(times, np.arange(len(samples)), samples)
    whole = (np.clip(louder, -1, 1) * 32767).astype("<i2")
    return np.repeat(whole, channels).tobytes()


async def transcribe(port: int, data: bytes, start: AudioStart, **wanted: Any) -> list[Event]:
    """All that is said from the start of the sound to the transcript, or the error."""
    async with AsyncTcpClient("127.0.0.1", port) as client:
        await client.write_event(Transcribe(**wanted).event())
        await client.write_event(start.event())
        step = start.rate * start.width * start.channels // 10
        for at in range(0, len(data), step):
            chunk = AudioChunk(start.rate, start.width, start.channels, data[at : at + step])
            await client.write_event(chunk.event())
        await client.write_event(AudioStop().event())
        events = []
        while (event := await client.read_event()) is not None:
            events.append(event)
            if Transcript.is_type(event.type) or Error.is_type(event.type):
                return events
        return events


def heard(events: list[Event]) -> Transcript:
    assert Transcript.is_type(events[-1].type), events[-1]
    return Transcript.from_event(events[-1])


@pytest.mark.usefixtures("server")
def test_a_client_learns_what_there_is(port: int) -> None:
    async def describe() -> Info:
        async with AsyncTcpClient("127.0.0.1", port) as client:
            await client.write_event(Ping(text="hello").event())
            pong = await client.read_event()
            assert pong is not None
            assert Pong.from_event(pong).text == "hello"
            await client.write_event(Describe().event())
            event = await client.read_event()
            assert event is not None
            return Info.from_event(event)

    [program] = run(describe()).asr
    assert program.models[0].name == "demo"
    assert {"en", "es"} <= set(program.models[0].languages)


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (48_000, 2)])
def test_what_is_said_is_the_transcript(port: int, rate: int, channels: int) -> None:
    start = AudioStart(rate, 2, channels)
    events = run(transcribe(port, sound(rate, channels), start, language="en"))
    transcript = heard(events)
    assert word_error_rate(said(), transcript.text) == 0
    assert transcript.language == "en"
    told = "".join(
        TranscriptChunk.from_event(e).text for e in events if TranscriptChunk.is_type(e.type)
    )
    assert len(normalize(told)) >= len(said()) - 1


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("start", "wanted"),
    [
        (AudioStart(16_000, 4, 1), {}),
        (AudioStart(16_000, 2, 99), {}),
        (AudioStart(16_000, 2, 1), {"language": "klingon"}),
        (AudioStart(16_000, 2, 1), {"name": "no-such-model"}),
    ],
)
def test_a_wrong_request_is_told_and_the_next_one_works(
    port: int, start: AudioStart, wanted: dict[str, Any]
) -> None:
    events = run(transcribe(port, bytes(3200), start, **wanted))
    assert Error.is_type(events[-1].type)
    assert Error.from_event(events[-1]).text
    assert heard(run(transcribe(port, sound(), AudioStart(RATE, 2, 1)))).text


@pytest.mark.parametrize(
    "message",
    [
        b"no event\n",
        b"[]\n",
        b'{"type": 1, "payload_length": -5}\n',
        json.dumps({"type": "audio-chunk", "payload_length": 1 << 40}).encode() + b"\n",
        b"x" * (1 << 20),
    ],
)
def test_garbage_closes_only_its_connection(server: Server, port: int, message: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as connection:
        connection.sendall(message)
        connection.settimeout(TIMEOUT_S)
        try:
            while connection.recv(65_536):
                pass
        except ConnectionResetError:
            pass
    assert httpx.get(f"{server.url}/health", timeout=30, verify=False).status_code == 200


def test_a_client_that_hangs_up_leaves_nothing(server: Server, port: int) -> None:
    async def vanish() -> None:
        async with AsyncTcpClient("127.0.0.1", port) as client:
            await client.write_event(AudioStart(RATE, 2, 1).event())
            await client.write_event(AudioChunk(RATE, 2, 1, sound()).event())

    run(vanish())
    assert heard(run(transcribe(port, sound(), AudioStart(RATE, 2, 1)))).text
    queue = httpx.get(f"{server.url}/queue", timeout=30, verify=False).json()
    assert not queue.get("requests", queue.get("entries", []))
