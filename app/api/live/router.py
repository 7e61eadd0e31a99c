"""The WebSockets of live transcription."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.websockets import WebSocket

from app.api.live.handshake import admit
from app.api.live.realtime import RealtimeContract
from app.api.live.stream import StreamContract
from app.live.live import Live


def build_router(live: Live) -> APIRouter:
    router = APIRouter()

    @router.websocket("/stream")
    async def stream(websocket: WebSocket) -> None:
        await admit(websocket, live, "/stream", StreamContract)

    @router.websocket("/v1/realtime")
    async def realtime(websocket: WebSocket) -> None:
        await admit(websocket, live, "/v1/realtime", RealtimeContract)

    return router
