"""Wyoming: the protocol of Home Assistant, spoken by the client of its own package."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np
import pytest
from wyoming.asr import Transcribe, Transcript, TranscriptChunk
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.event import Event, Eventable
from wyoming.info import Describe, Info
from wyoming.ping import Ping, Pong

from tests.support.media import speech
from tests.support.ports import free_port
from tests.support.server import Server, running_server
from tests.support.truth import audio_of, normalize, truth_of, word_error_rate
from tests.support.waiting import eventually

T = TypeVar("T")
NAME, RATE = "en_short", 16_000
TIMEOUT_S = 120.0
IDLE_S = 4
LIMIT_S = 240
START = AudioStart(RATE, 2, 1)


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("wyoming")
    with running_server(
        folder,
        WYOMING_PORT=port,
        JOBS="false",
        LIVE_IDLE_TIMEOUT_SECONDS=IDLE_S,
        RATE_LIMIT_AUDIO_MINUTES_PER_HOUR=LIMIT_S // 60,
    ) as server:
        yield server


@pytest.fixture(autouse=True)
def _leaves_nothing(server: Server) -> Iterator[None]:
    yield
    if server.process.poll() is None:
        eventually(lambda: server.get("/queue").json() == {"requests": []})
    assert "Traceback" not in server.log()


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
    assert httpx.get(f"{server.url}/health", timeout=30).status_code == 200


def test_a_client_that_hangs_up_leaves_nothing(server: Server, port: int) -> None:
    async def vanish() -> None:
        async with AsyncTcpClient("127.0.0.1", port) as client:
            await client.write_event(START.event())
            await client.write_event(AudioChunk(RATE, 2, 1, sound()).event())

    run(vanish())
    eventually(lambda: server.get("/queue").json() == {"requests": []})
    assert heard(run(transcribe(port, sound(), START))).text


@pytest.mark.usefixtures("server")
def test_as_home_assistant_does(port: int) -> None:
    """It describes; then it transcribes on a connection of its own, and reads only at the end."""

    async def assist() -> str | None:
        async with AsyncTcpClient("127.0.0.1", port) as client:
            await client.write_event(Describe().event())
            event = await client.read_event()
            assert event is not None
            languages = Info.from_event(event).asr[0].models[0].languages
        async with AsyncTcpClient("127.0.0.1", port) as client:
            await client.write_event(Transcribe(language=languages[languages.index("en")]).event())
            await client.write_event(START.event())
            data = sound()
            for at in range(0, len(data), 2048):
                await client.write_event(AudioChunk(RATE, 2, 1, data[at : at + 2048]).event())
            await client.write_event(AudioStop().event())
            while (event := await client.read_event()) is not None:
                if Transcript.is_type(event.type):
                    return Transcript.from_event(event).text
        return None

    assert word_error_rate(said(), run(assist()) or "") == 0


@pytest.mark.usefixtures("server")
def test_several_transcriptions_on_one_connection(port: int) -> None:
    """In one chunk each, one sent before the answer to the last; a ping between them."""

    async def talk() -> list[str]:
        async with AsyncTcpClient("127.0.0.1", port) as client:
            for _ in range(2):
                await client.write_event(Transcribe(language="en").event())
                await client.write_event(START.event())
                await client.write_event(AudioChunk(RATE, 2, 1, sound()).event())
                await client.write_event(AudioStop().event())
                await client.write_event(Ping(text="still there?").event())
            texts, pongs = [], 0
            while len(texts) < 2 or pongs < 2:
                event = await client.read_event()
                assert event is not None
                pongs += Pong.is_type(event.type)
                if Transcript.is_type(event.type):
                    texts.append(Transcript.from_event(event).text)
            return texts

    assert [word_error_rate(said(), text) for text in run(talk())] == [0, 0]


FORMAT = {"rate": RATE, "width": 2, "channels": 1}
WRONG: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "no format": [("audio-start", {})],
    "a rate that is text": [("audio-start", {**FORMAT, "rate": "16000"})],
    "a rate of nothing": [("audio-start", {**FORMAT, "rate": 0})],
    "a fraction of a rate": [("audio-start", {**FORMAT, "rate": 16000.5})],
    "channels in a list": [("audio-start", {**FORMAT, "channels": [1]})],
    "half a channel": [("audio-start", {**FORMAT, "channels": True})],
    "no width": [("audio-start", {**FORMAT, "width": None})],
    "a language that is a number": [("transcribe", {"language": 7}), ("audio-start", FORMAT)],
    "a name that is an object": [("transcribe", {"name": {}}), ("audio-start", FORMAT)],
    "names that are numbers": [("transcribe", {"transcript_names": [1]}), ("audio-start", FORMAT)],
    "terms that are text": [("transcribe", {"transcript_terms": "a"}), ("audio-start", FORMAT)],
    "a chunk of another format": [
        ("audio-start", FORMAT),
        ("audio-chunk", {**FORMAT, "channels": 2}),
    ],
    "a chunk without a format": [("audio-start", FORMAT), ("audio-chunk", {})],
    "an end without a start": [("audio-stop", {})],
    "half a character": [("ping", {"text": "\ud800"})],
}


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("kind", WRONG)
def test_wrong_values_are_told_and_end_the_connection(port: int, kind: str) -> None:
    async def send() -> list[Event]:
        async with AsyncTcpClient("127.0.0.1", port) as client:
            for name, data in WRONG[kind]:
                await write_raw(client, {"type": name, "data": data})
            return await read_all(client)

    events = run(send())
    assert Error.is_type(events[-1].type), events
    assert Error.from_event(events[-1]).text


async def write_raw(client: AsyncTcpClient, event: dict[str, Any]) -> None:
    """Events that the package itself would not write."""
    assert client._writer is not None
    client._writer.write(json.dumps(event).encode() + b"\n")
    await client._writer.drain()


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b'{"type": "descr',
        b'{"type": "audio-chunk", "payload_length": 100}\nabc',
    ],
    ids=["nothing", "half a line", "half a payload"],
)
def test_a_silent_client_is_dropped(port: int, begun: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as connection:
        connection.sendall(begun)
        assert connection.recv(65_536) == b""


@pytest.mark.usefixtures("server")
def test_a_client_that_falls_silent_while_it_speaks_is_told(port: int) -> None:
    async def speak() -> list[Event]:
        async with AsyncTcpClient("127.0.0.1", port) as client:
            await client.write_event(START.event())
            await client.write_event(AudioChunk(RATE, 2, 1, sound()).event())
            return await read_all(client)

    *_, transcript, _, error = run(speak())
    assert word_error_rate(said(), heard([transcript]).text) <= 0.2  # its language is detected
    assert Error.from_event(error).code == "deadline_exceeded"


def test_a_cancelled_transcription_is_told(server: Server, port: int) -> None:
    async def speak() -> list[Event]:
        async with AsyncTcpClient("127.0.0.1", port) as client:
            await client.write_event(START.event())
            await client.write_event(AudioChunk(RATE, 2, 1, sound()).event())
            [request] = await asyncio.to_thread(lambda: server.get("/queue").json()["requests"])
            url = f"{server.url}/queue/{request['id']}"
            await asyncio.to_thread(httpx.delete, url, timeout=30)
            return await read_all(client)

    assert Error.from_event(run(speak())[-1]).code == "cancelled"


def test_sound_counts_while_it_comes(server: Server, port: int) -> None:
    """More than is left: it is told in the middle, and before the next one."""

    async def speak() -> tuple[list[Event], float]:
        async with AsyncTcpClient("127.0.0.1", port) as client:
            await client.write_event(START.event())
            sent_s, second = 0.0, AudioChunk(RATE, 2, 1, bytes(2 * RATE)).event()
            reading = asyncio.create_task(read_all(client, Error))
            try:
                while not reading.done() and sent_s < 4 * LIMIT_S:  # no audio-stop comes
                    await client.write_event(second)
                    await asyncio.sleep(0)  # to read
                    sent_s += 1
            except ConnectionError:
                pass
            return await reading, sent_s

    events, sent_s = run(speak())
    assert Error.from_event(events[-1]).code == "rate_limited"
    assert sent_s < 4 * LIMIT_S
    metrics = server.get("/metrics").text
    [line] = [x for x in metrics.splitlines() if x.startswith("whisperx_asr_live_audio_seconds_t")]
    assert float(line.split()[1]) > LIMIT_S / 4
    assert Error.from_event(run(transcribe(port, sound(), START))[-1]).code == "rate_limited"
    # the same client is counted over HTTP
    assert server.post(audio_of(NAME)).status_code == 429


async def read_all(client: AsyncTcpClient, last: type[Eventable] | None = None) -> list[Event]:
    """To the end of the connection, or to the first event of a kind."""
    events = []
    while (event := await client.read_event()) is not None:
        events.append(event)
        if last is not None and last.is_type(event.type):
            break
    return events


def test_a_stop_tells_what_was_said(tmp_path: Path) -> None:
    """SIGTERM while somebody speaks, and while another connection is idle."""
    port = free_port()

    async def speak(server: Server) -> tuple[list[Event], list[Event]]:
        async with (
            AsyncTcpClient("127.0.0.1", port) as idle,
            AsyncTcpClient("127.0.0.1", port) as client,
        ):
            await client.write_event(Transcribe(language="en").event())
            await client.write_event(START.event())
            await client.write_event(AudioChunk(RATE, 2, 1, sound()).event())
            await client.read_event()  # it has begun
            server.process.send_signal(signal.SIGTERM)
            return await read_all(client), await read_all(idle)

    with running_server(tmp_path, WYOMING_PORT=port, JOBS="false") as server:
        events, idle = run(speak(server))
        server.process.wait(60)
    [transcript] = [Transcript.from_event(e) for e in events if Transcript.is_type(e.type)]
    assert word_error_rate(said(), transcript.text) == 0
    assert [Error.from_event(event).code for event in idle] == ["shutting_down"]
