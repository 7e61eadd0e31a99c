"""StreamConnection: which clients are cut off, and which are only slow."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState
from websockets.protocol import State

from app.serving import streams
from app.serving.streams import StreamConnection

CONFIG = uvicorn.Config(lambda scope: None, loop="none", ws_ping_interval=3600)


class Transport(SimpleNamespace):
    """Notes what is done to it."""

    def __init__(self) -> None:
        super().__init__(done=[])

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.done.append(name) if name != "is_closing" else False


def connection() -> StreamConnection:
    made = StreamConnection(
        config=CONFIG, server_state=ServerState(), app_state={}, _loop=asyncio.get_running_loop()
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
        assert deaf.transport.done[0] == "write"
        assert deaf.conn.close_sent is not None
        assert deaf.conn.close_sent.code == 1008

    asyncio.run(run())


@pytest.mark.parametrize(("paused", "heard_at", "aborted"), [
    (False, 1.0, True), (True, 1.0, False), (False, 3.0, False),
])  # fmt: skip
def test_a_pong_behind_sound_is_late_not_missing(
    paused: bool, heard_at: float, aborted: bool
) -> None:
    async def run() -> list[str]:
        made = connection()
        made.read_paused, made._heard_at, made.ping_sent_at = paused, heard_at, 2.0
        made.keepalive_timeout()
        assert (made.ping_timer is not None) != aborted
        made.stop_keepalive()
        return made.transport.done  # type: ignore[attr-defined, no-any-return]

    assert ("abort" in asyncio.run(run())) == aborted


def test_a_stop_leaves_an_open_stream_to_the_application() -> None:
    async def run() -> list[str]:
        made = connection()
        made.shutdown()
        return made.transport.done  # type: ignore[attr-defined, no-any-return]

    assert asyncio.run(run()) == []
