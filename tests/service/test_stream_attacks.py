"""Hostile clients of /stream and /v1/realtime, byte by byte: each is closed with a defined code, in
bounded time, nothing is left of it, and the next stream works.
"""

from __future__ import annotations

import json
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from itertools import product

import httpx
import pytest

from tests.support.media import speech
from tests.support.raw_streams import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    TEXT,
    Raw,
    closing,
    frame,
    handshake,
    opened,
    raw,
)
from tests.support.server import Server, running_server
from tests.support.streams import stream
from tests.support.truth import normalize, truth_of
from tests.support.waiting import PATIENCE_S, eventually

SAID = normalize(" ".join(word["word"] for word in truth_of("en_short")["words"]))
PATHS = ("/stream", "/v1/realtime")
MAX_CONNECTIONS = 12
HEAD_TIMEOUT_S = 2
SOON_S = 10.0  # far above what a request takes beside an attack, far below what a bug costs it


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(
        tmp_path_factory.mktemp("attacks"),
        JOBS="false",
        MAX_CONNECTIONS=MAX_CONNECTIONS,
        CONNECTION_TIMEOUT_SECONDS=HEAD_TIMEOUT_S,
    ) as running:
        yield running


@pytest.fixture(autouse=True)
def _goes_on(server: Server) -> Iterator[None]:
    """Nothing is left, no error is logged, and the next stream hears every word."""
    logged = len(server.log())
    yield
    # what a flood has left in the kernel is read first, in turn
    eventually(lambda: server.get("/queue").json() == {"requests": []}, 3 * PATIENCE_S)
    eventually(lambda: num_streams(server) == 0)
    assert not [line for line in server.log()[logged:].splitlines() if "[error" in line]
    with stream(server, language="en") as client:
        client.say(speech("en_short"))
        client.end()
    assert normalize(client.text()) == SAID


def num_streams(server: Server) -> float:
    lines = server.get("/metrics").text.splitlines()
    [line] = [line for line in lines if line.startswith("whisperx_asr_live_streams ")]
    return float(line.split()[1])


HANDSHAKES = {
    "many headers": (handshake("/stream", "X: 1\r\n" * 129), 431),
    "a long header": (handshake("/stream", f"X: {'a' * 9000}\r\n"), 431),
    "a long address": (handshake(f"/stream?{'a' * 9000}"), 414),
    "a bad key": (handshake("/stream", Sec_WebSocket_Key="nonsense"), 400),
    "two keys": (handshake("/stream", "Sec-WebSocket-Key: a\r\n"), 400),
    "no key": (handshake("/stream", Sec_WebSocket_Key=None), 426),
    "an old version": (handshake("/stream", Sec_WebSocket_Version="12"), 400),
    "no version": (handshake("/stream", Sec_WebSocket_Version=None), 400),
    "HTTP/1.0": (handshake("/stream", version="1.0"), 404),
    "a body": (handshake("/stream", "Content-Length: 5\r\n") + b"hello", 404),
    "another upgrade": (handshake("/stream", Upgrade="h2c"), 426),
    "an odd subprotocol": (handshake("/stream", 'Sec-WebSocket-Protocol: ,"\r\n'), 400),
    "an odd connection": (handshake("/stream", Connection='Upgrade, "x'), 400),
}


def test_handshakes_that_are_none(server: Server) -> None:
    for kind, (request, expected) in HANDSHAKES.items():
        with raw(server, request) as client:
            assert client.answer() == expected, kind


def test_a_handshake_that_drips(server: Server) -> None:
    with raw(server) as client:
        for byte in handshake("/stream"):
            client.send(bytes([byte]))
            client.socket.settimeout(0.5)
            with suppress(TimeoutError):
                if not client._more() or client.unread:
                    break
        assert client.answer() in (0, 408)


FAULTS = {
    "no UTF-8": (frame(TEXT, b"\xff\xfe"), 1007),
    "no UTF-8 in fragments": (frame(TEXT, b"\xc3", fin=False) + frame(CONT, b"\x28"), 1007),
    "not masked": (frame(TEXT, b"{}", masked=False), 1002),
    "a long ping": (frame(PING, bytes(126)), 1002),
    "a ping in fragments": (frame(PING, fin=False), 1002),
    "a reserved bit": (frame(TEXT, b"{}", reserved=4), 1002),
    "a reserved kind": (frame(3, b"a"), 1002),
    "a reserved kind of control": (frame(11, b"a"), 1002),
    "a continuation of nothing": (frame(CONT, b"a"), 1002),
    "a message in a message": (frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"), 1002),
    "half a close code": (frame(CLOSE, b"a"), 1002),
    "a close reason that is no text": (closing(1000, b"\xff"), 1007),
    "an endless frame": (b"\x82\xff" + struct.pack("!Q", 17 << 20) + bytes(17 << 20), 1009),
    "a negative length": (b"\x82\xff" + b"\xff" * 12, 1009),
    "a second handshake": (handshake("/stream"), 1002),
    **{f"close code {code}": (closing(code), 1002) for code in (0, 999, 1005, 1006, 1015, 5000)},
    **{f"good code {code}": (closing(code), code) for code in (1000, 1001, 3000, 4999)},
    "no close code": (frame(CLOSE), 1005),
}


def test_frames_that_are_none(server: Server) -> None:
    for path, (kind, (data, expected)) in product(PATHS, FAULTS.items()):
        with opened(server, path) as client:
            client.send(data)
            assert client.close_code() == expected, (path, kind)


def test_frames_before_the_answer(server: Server) -> None:
    """The same, sent with the handshake."""
    for path, (kind, (data, expected)) in product(PATHS, FAULTS.items()):
        with raw(server, handshake(path) + data) as client:
            assert client.answer() == 101, (path, kind)
            assert client.close_code() == expected, (path, kind)


def test_a_message_in_fragments_with_pings_between(server: Server) -> None:
    config = json.dumps({"language": "en", "chunk_duration": 7}).encode()
    with opened(server, "/stream") as client:
        for i, byte in enumerate(config):
            kind = CONT if i else TEXT
            client.send(frame(kind, bytes([byte]), fin=i == len(config) - 1))
            client.send(frame(PING, b"%d" % i))
        client.send(frame(PONG, b"nobody asked"))
        client.send(frame(TEXT, b'{"command": "end"}'))
        assert client.close_code() == 1000
    assert json.loads(client.texts[0])["config"]["chunk_duration"] == 7
    assert client.pongs == [b"%d" % i for i in range(len(config))]


FLOODS = {
    "pings": frame(PING, b"flood") * 4000,
    "pongs": frame(PONG) * 8000,
    "empty fragments": frame(TEXT, b"{", fin=False) + frame(CONT, fin=False) * 8000,
    "tiny messages": frame(BINARY, b"a") * 4000,
}


@pytest.mark.parametrize("reads", [True, False])
@pytest.mark.parametrize("kind", FLOODS)
def test_a_flood_of_frames_slows_nobody_down(server: Server, kind: str, reads: bool) -> None:
    with opened(server, "/stream") as client:
        over = threading.Event()
        threads = [threading.Thread(target=flood, args=(client, FLOODS[kind], over))]
        if reads:
            threads.append(threading.Thread(target=client.close_code))
        for thread in threads:
            thread.start()
        time.sleep(0.5)  # as many as it takes
        for _ in range(5):
            httpx.get(f"{server.url}/health", timeout=SOON_S).raise_for_status()
        over.set()
        for thread in threads:
            thread.join()


def flood(client: Raw, unit: bytes, over: threading.Event) -> None:
    first, rest = unit, unit[len(unit) % 6 :] if unit[0] == TEXT else unit
    client.socket.settimeout(1)
    with suppress(OSError):
        client.socket.sendall(first)
        while not over.is_set():
            client.socket.sendall(rest)
    over.wait()
    with suppress(OSError):
        client.socket.shutdown(2)


def test_clients_that_vanish(server: Server) -> None:
    half = frame(BINARY, bytes(6400))[:3000]
    for path, last in product(PATHS, (b"", half, frame(TEXT, b"{", fin=False))):
        with opened(server, path) as client:
            client.send(last)
    with opened(server, "/stream") as client:
        client.socket.shutdown(1)  # half open: it could still hear
        client.close_code()


def test_streams_count_as_connections(server: Server) -> None:
    """Where all are taken by streams, a request is refused at once; with the first that ends, the
    next one is served.
    """
    with ExitStack() as stack:
        clients = [stack.enter_context(raw(server, handshake("/stream"))) for _ in range(30)]
        statuses = [client.answer() for client in clients]
        assert statuses.count(101) == MAX_CONNECTIONS
        assert statuses.count(503) == len(clients) - MAX_CONNECTIONS
        with raw(server, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n") as other:
            assert other.answer() == 503
        clients[statuses.index(101)].socket.close()
        eventually(lambda: served(server))


def served(server: Server) -> bool:
    with raw(server, b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") as other:
        return other.answer() == 200
