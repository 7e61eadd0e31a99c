"""The lives of streams: how they may begin and end, what is kept of them, and what is not."""

from __future__ import annotations

import base64
import json
import random
import re
import signal
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from socket import SHUT_RDWR, SO_LINGER, SOL_SOCKET
from typing import Any

import numpy as np
import psutil
import pytest
from websockets.sync.client import connect

from tests.support.faulty_server import COUNTED
from tests.support.media import speech
from tests.support.paths import ROOT
from tests.support.server import Server, running_server
from tests.support.streams import Stream, address, bare_stream, event, frame, status, stream
from tests.support.truth import normalize
from tests.support.waiting import eventually

SHORT = speech("en_short")
SECOND = np.zeros(16_000, np.float32)
SAID = ["can", "you", "check", "the", "report", "the", "building", "is", "late"]
OTHER, MISSING = "our-whisper", "owner/repository"
REALTIME = "/v1/realtime"
NUM_STREAMS = 200
MORE_THREADS = 20


def running(folder: Path) -> Any:
    other = folder / OTHER
    other.symlink_to(ROOT / "app" / "demo" / "whisper")
    return running_server(
        folder,
        script=ROOT / "tests" / "support" / "faulty_server.py",
        ALLOWED_MODELS=f"demo, {other}, {MISSING}",
        LIVE_MAX_STREAMS_PER_CLIENT=32,
        JOBS="false",
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("lives")) as server:
        yield server


def hears(server: Server) -> bool:
    with stream(server, language="en") as client:
        client.say(SHORT)
        client.end()
    return normalize(client.text()) == SAID


# -- many short lives ----------------------------------------------------------------------------


def vanish(server: Server, path: str, data: bytes) -> None:
    """Without a close, or with a reset."""
    bare = bare_stream(server, path)
    bare.sendall(data)
    if len(data) % 2:
        bare.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    bare.close()


def end_well(server: Server, path: str, *messages: str | bytes) -> None:
    with connect(address(server, path)) as websocket:
        for message in messages:
            websocket.send(message)


def end_by_command(server: Server) -> None:
    with stream(server, language="en") as client:
        client.socket.send(bytes(6_400))
        assert client.end()[-1] == {"status": "ended"}


def fail_to_load(server: Server) -> None:
    with stream(server, model=MISSING) as client:
        assert client.closed() == 1013


def text(**message: Any) -> bytes:
    return frame(json.dumps(message).encode(), 1)


CONFIG = text(language="en")
CHANGE = text(command="config", config={"model": OTHER})
APPEND = json.dumps({"type": "input_audio_buffer.append", "audio": "AAAA" * 800})
WAYS: list[Callable[[Server], None]] = [
    lambda server: vanish(server, "/stream", b""),
    lambda server: vanish(server, "/stream", CONFIG),
    lambda server: vanish(server, "/stream", CONFIG + frame(bytes(100))),
    lambda server: vanish(server, "/stream", CONFIG + frame(bytes(100)) + CHANGE + CHANGE),
    lambda server: vanish(server, "/stream", frame(bytes(100))[:50]),
    lambda server: vanish(server, REALTIME, text(type="input_audio_buffer.clear")),
    lambda server: vanish(server, "/stream", b"\xff" * 100),
    lambda server: end_well(server, "/stream"),
    lambda server: end_well(server, "/stream", "garbage", bytes(100), '{"command": "end"}'),
    lambda server: end_well(server, REALTIME, "garbage", APPEND),
    end_by_command,
    fail_to_load,
]


def live(server: Server) -> dict[str, int]:
    """How many objects of streams the service holds."""
    before = len(told(server))
    server.process.send_signal(signal.SIGUSR2)
    eventually(lambda: len(told(server)) > before)
    counts: dict[str, int] = json.loads(told(server)[-1])
    return counts


def told(server: Server) -> list[str]:
    return re.findall(COUNTED + r" (\{.*?\})", server.log())


def test_nothing_is_kept_of_short_streams(server: Server) -> None:
    process = psutil.Process(server.process.pid)
    ways = WAYS * (NUM_STREAMS // len(WAYS) + 1)
    random.Random(15).shuffle(ways)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda way: way(server), WAYS * 2))  # pools of threads are made
        assert hears(server)
        eventually(lambda: server.get("/queue").json()["requests"] == [])
        before, files, threads = live(server), process.num_fds(), process.num_threads()
        list(pool.map(lambda way: way(server), ways))
    eventually(lambda: server.get("/queue").json()["requests"] == [])
    assert hears(server)
    eventually(lambda: all(count <= before[name] for name, count in live(server).items()))
    eventually(lambda: process.num_fds() <= files)
    # of pools that grow when they must
    eventually(lambda: process.num_threads() <= threads + MORE_THREADS)
    assert "never retrieved" not in server.log()
    assert "failed unexpectedly" not in server.log()
    assert "Exception in" not in server.log()


def not_needed_until(client: Stream) -> float:
    """From where on a client has to send again that is cut off."""
    finals, silences = client.all(event("final")), client.all(event("silence"))
    begun, told = len(client.all(event("speech_started"))), len(finals)
    ends = [0.0, *(final["end"] for final in finals)]
    return max(*ends, *(s["until"] for s in silences)) if begun == told else ends[-1]


@pytest.mark.parametrize("cut_off", ["in silence", "in speech"])
def test_a_client_that_is_cut_off_hears_each_word_once(server: Server, cut_off: str) -> None:
    sound = np.concatenate([SHORT, *[SECOND] * 3, SHORT])
    begin_s = len(SHORT) / 16_000 + 3
    told_s = begin_s + (2 if cut_off == "in speech" else 0)
    with stream(server, language="en", events=True) as client:
        client.say(np.concatenate([SHORT, SECOND]))
        client.wait(event("final"))
        client.say(sound[len(SHORT) + 16_000 : round(told_s * 16_000)])
        client.wait(lambda m: m.get("event") == "silence" and m["until"] > begin_s - 2)
        if cut_off == "in speech":
            client.wait(event("speech_started"), 2)
        at_s = not_needed_until(client)
        before = client.all(event("final"))
        client.socket.socket.shutdown(SHUT_RDWR)
    assert at_s < begin_s
    if cut_off == "in silence":
        assert at_s > begin_s - 2
    with stream(server, language="en", events=True, resume_from_s=at_s) as client:
        client.say(sound[round(at_s * 16_000) :])
        client.end()
    finals = [*before, *client.all(event("final"))]
    words = [word for final in finals for word in final["words"]]
    assert normalize(" ".join(final["text"] for final in finals)) == SAID * 2
    assert [word["start"] for word in words] == sorted(word["start"] for word in words)
    assert words[len(SAID)]["start"] > begin_s


# -- configurations ------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_rates(server: Server, rate: int) -> None:
    times = np.arange(len(SHORT) * rate // 16_000) * 16_000 / rate
    sound = np.interp(times, np.arange(len(SHORT)), SHORT).astype(np.float32)
    with stream(server, language="en", sample_rate=rate, encoding="int16") as client:
        client.say(sound, rate // 10, "<i2")
        client.end()
    words = normalize(client.text())
    assert words == SAID if rate > 8_000 else len(set(words) & set(SAID)) >= 6
    assert 0.3 < client.words()[0]["start"] < 1
    assert client.words()[-1]["end"] < 3.6


def test_rates_that_are_none(server: Server) -> None:
    with stream(server, sample_rate=0) as client:
        greeting = client.wait(status("connected"))
        assert greeting["config"]["sample_rate"] == 16_000
        assert greeting["notes"][0].startswith("sample_rate: must be")
        for number, rate in enumerate((1, 0, -8_000, 10**9, 1e300, 10**40, None, "16000"), 1):
            client.command("config", config={"sample_rate": rate})
            assert "sample_rate" in client.wait(status("error"), number)["message"]
        client.say(SHORT)
        client.end()
    assert normalize(client.text()) == SAID


def test_a_model_that_cannot_be_loaded(server: Server) -> None:
    """What was said to the one before is told first."""
    with stream(server, language="en") as client:
        client.say(SHORT)
        client.command("config", config={"model": MISSING})
        with suppress(Exception):  # it may be closed by then
            client.say(SHORT)
        assert client.closed() == 1013
    assert normalize(client.text())[: len(SAID)] == SAID
    assert client.messages[-1]["status"] == "error"
    assert client.socket.close_reason
    assert hears(server)


# -- the end of the service ----------------------------------------------------------------------


def appended(samples: np.ndarray[Any, Any]) -> str:
    audio = base64.b64encode((samples * 32_767).astype("<i2").tobytes()).decode()
    return json.dumps({"type": "input_audio_buffer.append", "audio": audio})


def test_a_stop_finds_streams_in_every_state(tmp_path: Path) -> None:
    with running(tmp_path) as server, ExitStack() as stack:

        def opened(path: str = "/stream", **config: Any) -> Stream:
            return stack.enter_context(stream(server, path, **config))

        silent = Stream(stack.enter_context(connect(address(server), ping_interval=None)))
        nothing_said = opened(language="en")
        speaking, done, changing = (opened(language="en", events=True) for _ in range(3))
        form = {"type": "audio/pcm", "rate": 16_000}
        sound = {"format": form, "turn_detection": None, "transcription": {"language": "en"}}
        realtime = opened(REALTIME, type="session.update", session={"audio": {"input": sound}})
        realtime.socket.send(appended(SHORT))
        speaking.say(SHORT[: 16_000 * 2])
        done.say(np.concatenate([SHORT, SECOND]))
        changing.say(SHORT)
        changing.command("config", config={"model": OTHER})  # nobody has loaded it yet
        changing.say(SHORT)
        loading = opened(language="en", model=OTHER)
        loading.say(SHORT)
        speaking.wait(event("speech_started"))
        done.wait(event("speech_ended"))
        clients = [silent, nothing_said, speaking, done, changing, realtime, loading]
        for client in clients:
            assert client.socket.ping().wait(60)
        server.process.send_signal(signal.SIGTERM)
        assert [client.closed() for client in clients] == [1012] * len(clients)
        assert normalize(speaking.text())[:4] == SAID[:4]
        assert normalize(done.text()) == SAID
        assert normalize(changing.text()) == SAID * 2
        assert normalize(loading.text()) == SAID
        told = realtime.all(lambda m: m["type"].endswith("transcription.completed"))
        assert normalize(told[0]["transcript"]) == SAID
        assert nothing_said.messages[-1] == {"status": "ended"}
        server.process.wait(60)
        assert "Exception in" not in server.log()
