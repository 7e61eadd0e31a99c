"""The WebSockets of live transcription."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec

from fastapi import APIRouter
from starlette.websockets import WebSocket

from app.api.live.handshake import admit
from app.api.live.realtime import RealtimeContract
from app.api.live.stream import StreamContract
from app.config.live import LiveSettings
from app.domain.errors import ConfigurationError
from app.live.live import Live


@asynccontextmanager
async def listening_for_wyoming(live: Live, host: str) -> AsyncIterator[None]:
    """Serve Wyoming clients, if WYOMING_PORT is set, until the block ends."""
    port = live.settings.wyoming_port
    if port is None:
        yield
        return
    from app.api.live.wyoming import start_wyoming  # an extra

    server = await start_wyoming(live, host, port)
    try:
        yield
    finally:
        server.close()


def check_wyoming(settings: LiveSettings) -> None:
    """Raises ConfigurationError if WYOMING_PORT is set, but nothing could be served there."""
    if settings.wyoming_port is None:
        return
    if not settings.live_max_streams:
        raise ConfigurationError("WYOMING_PORT: needs live streams, but LIVE_MAX_STREAMS is 0.")
    if find_spec("wyoming") is None:
        raise ConfigurationError(
            "WYOMING_PORT: needs the extra: pip install 'whisperx-asr-service[wyoming]'."
        )


def build_router(live: Live) -> APIRouter:
    router = APIRouter()

    @router.websocket("/stream")
    async def stream(websocket: WebSocket) -> None:
        await admit(websocket, live, "/stream", StreamContract)

    @router.websocket("/v1/realtime")
    async def realtime(websocket: WebSocket) -> None:
        await admit(websocket, live, "/v1/realtime", RealtimeContract)

    return router
