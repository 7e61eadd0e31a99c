"""StreamConnection: which clients are cut off, and which are only slow."""

from __future__ import annotations

import asyncio
import functools
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket
from uvicorn.server import ServerState
from websockets.protocol import State

from app.service.pace import Pace
from app.serving import streams
from app.serving.connection import Connection, ConnectionLimits
from app.serving.streams import StreamConnection
from app.serving.wire import Wiring
from tests.support.raw_streams import BINARY, PING, PONG, Raw, frame, handshake
from tests.support.waiting import PATIENCE_S, eventually

CONFIG = uvicorn.Config(lambda scope: None, loop="none", ws_ping_interval=3600)
PING_S = 0.2  # between two pings, and for a pong
MANY = 10  # times as long
NO_PONG = 1011


class Transport(SimpleNamespace):
    """Notes what is done to it."""

    def __init__(self) -> None:
        super().__init__(done=[])

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.done.append(name) if name != "is_closing" else False


def connection() -> StreamConnection:
    made = StreamConnection(
        Pace(),
        config=CONFIG,
        server_state=ServerState(),
        app_state={},
        _loop=asyncio.get_running_loop(),
    )
    made.transport = Transport()  # type: ignore[assignment]
    made.handshake_complete = True
    return made


def test_a_client_that_does_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "READ_TIMEOUT_S", 0.01)

    async def run() -> None:
        slow, deaf = connection(), connection()
        for made in (slow, deaf):
            made.conn.state = State.OPEN
            made.pause_writing()
        slow.resume_writing()
        await asyncio.wait_for(deaf.writable.wait(), 60)
        assert not slow.close_sent
        assert deaf.close_sent
        assert "write" in deaf.transport.done
        assert deaf.conn.close_sent is not None
        assert deaf.conn.close_sent.code == 1008

    asyncio.run(run())


def test_a_stop_leaves_an_open_stream_to_the_application() -> None:
    async def run() -> list[str]:
        made = connection()
        made.shutdown()
        return made.transport.done  # type: ignore[attr-defined, no-any-return]

    assert asyncio.run(run()) == []


class Pinging:
    """A server with one WebSocket, which pings often and takes a message now and then."""

    def __init__(self) -> None:
        app = Starlette(routes=[WebSocketRoute("/live", self.live)])
        wiring = Wiring(Pace(), lambda path: True)
        limits = ConnectionLimits(20, 30, 30)
        self.loop: Any = None
        self.pause_s = 0.0
        config = uvicorn.Config(
            app,
            loop="asyncio",  # shows its timers
            http=functools.partial(Connection, limits, wiring),  # type: ignore[arg-type]
            ws=functools.partial(StreamConnection, Pace()),  # type: ignore[arg-type]
            ws_ping_interval=PING_S,
            ws_ping_timeout=PING_S,
            log_config=None,
            lifespan="off",
        )
        self.server = uvicorn.Server(config)
        self.socket = socket.create_server(("127.0.0.1", 0))

    async def live(self, websocket: WebSocket) -> None:
        self.loop = asyncio.get_running_loop()
        await websocket.accept()
        async for _ in websocket.iter_bytes():
            await asyncio.sleep(self.pause_s)

    def timers(self) -> list[Any]:
        """Those of streams that are still to come."""
        return [
            timer
            for timer in tuple(self.loop._scheduled)
            if not timer.cancelled()
            and isinstance(getattr(timer._callback, "__self__", None), StreamConnection)
        ]

    @contextmanager
    def running(self) -> Iterator[Pinging]:
        thread = threading.Thread(target=self.server.run, args=([self.socket],))
        thread.start()
        try:
            yield self
        finally:
            self.server.should_exit = True
            thread.join(PATIENCE_S)

    @contextmanager
    def client(self) -> Iterator[Raw]:
        with closing(socket.create_connection(self.socket.getsockname(), PATIENCE_S)) as made:
            client = Raw(made)
            client.send(handshake("/live"))
            assert client.answer() == 101
            yield client


@pytest.fixture(scope="module")
def pinging() -> Iterator[Pinging]:
    with Pinging().running() as running:
        yield running


@pytest.fixture(autouse=True)
def _no_timer_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "pinging" in request.fixturenames:
        server: Pinging = request.getfixturevalue("pinging")
        eventually(lambda: not server.server.server_state.connections)
        assert server.timers() == []


def test_a_client_that_answers_no_ping_is_cut_off(pinging: Pinging) -> None:
    with pinging.client() as client:
        assert client.close_code() == NO_PONG


def test_a_client_that_answers_pings_stays(pinging: Pinging) -> None:
    begun = time.monotonic()
    with pinging.client() as client:
        for _ in range(MANY):
            opcode, data = client.next() or (0, b"")
            assert opcode == PING
            client.send(frame(PONG, data))
        assert time.monotonic() - begun > (MANY - 1) * PING_S / 2
        eventually(lambda: len(pinging.timers()) == 1)


def test_sound_is_an_answer_and_its_pings_do_not_multiply(pinging: Pinging) -> None:
    """A client whose pong comes late, behind sound: it stays, with one ping at a time."""
    with pinging.client() as client:
        for _ in range(MANY):
            opcode, data = client.next() or (0, b"")
            assert opcode == PING
            client.send(frame(BINARY, bytes(100)))
            time.sleep(1.5 * PING_S)  # the time for the pong is over
            client.send(frame(PONG, data) + frame(BINARY, bytes(100)))
        assert len(pinging.timers()) <= 2
