"""The addresses of the WebSockets, asked for over plain HTTP: why nothing is served there."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from app.domain.errors import NoWebSocket

ADDRESSES = ("/stream", "/v1/realtime")
NEEDS_UPGRADE = "Live transcription speaks WebSocket: connect to this address with ws:// or wss://."
TURNED_OFF = "Live transcription is turned off on this service (LIVE_MAX_STREAMS=0)."


def refused_handshake(is_on: bool) -> NoWebSocket:
    """Why there is no WebSocket at an address. Without live transcription, there is none at all."""
    return NoWebSocket() if is_on else NoWebSocket(TURNED_OFF)


def build_router(is_on: bool) -> APIRouter:
    """For programs that ask first, and for pages, which hear no reason for a refused handshake."""
    router = APIRouter(include_in_schema=False)

    async def refuse() -> JSONResponse:
        if is_on:
            headers = {"Upgrade": "websocket", "Connection": "Upgrade"}
            return JSONResponse({"detail": NEEDS_UPGRADE}, 426, headers)
        return JSONResponse({"detail": TURNED_OFF}, 404)

    for address in ADDRESSES:
        router.add_api_route(address, refuse, methods=["GET"])
    return router
