"""The handshake of a stream: refused as an HTTP request, or a connection that is served."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable
from typing import Any

from starlette.websockets import WebSocket, WebSocketState
from structlog.contextvars import bind_contextvars

from app.api.live.connection import LiveConnection
from app.api.middleware.refusals import refuse
from app.api.rate_limits import account_of
from app.api.request_state import client_name
from app.api.statuses import status_of
from app.domain.errors import Forbidden, ServiceError
from app.live.live import Live
from app.observability.record import RequestRecord


async def admit(websocket: WebSocket, live: Live, endpoint: str, contract: Any) -> None:
    """Serve a handshake: refuse it as an HTTP request, or accept it and run its contract.

    `contract`: called with the connection; `contract.protocol(websocket)` names a subprotocol.
    """
    record = RequestRecord(secrets.token_hex(8), "WS", websocket.url.path, endpoint)
    scope = websocket.scope
    record.client_name = client_name(scope)
    record.address = (scope.get("client") or ("",))[0]
    try:
        check_origin(websocket, live.service.settings.cors_origins)
        with live.enter(record, client_name(scope), account_of(scope)) as stream:
            if live.service.calls.rate_limits.enabled:
                await asyncio.to_thread(stream.call.account.admit)
            connection = LiveConnection(websocket, live, stream)
            served = contract(connection, websocket)
            await websocket.accept(contract.protocol(websocket))
            record.status = 101
            bind_contextvars(request_id=record.request_id)  # on each line that is logged of it
            await connection.serve(served)
    except ServiceError as error:
        record.error, record.status = type(error).__name__, status_of(error)
        if websocket.application_state is WebSocketState.CONNECTING:
            await refuse(error, scope, websocket.receive, websocket.send)
    finally:
        record.end()
        live.service.report(record)


def check_origin(websocket: WebSocket, allowed: Iterable[str]) -> None:
    """Browsers let every page open WebSockets. Where CORS origins are set, only those may, and
    pages of the service itself.

    Raises:
        Forbidden
    """
    origin = websocket.headers.get("origin")
    origins = tuple(allowed)
    if origin is None or not origins or "*" in origins or origin in origins:
        return
    host = websocket.headers.get("host", "")
    if origin.partition("://")[2] != host:
        raise Forbidden("Pages of this origin may not open streams: see CORS_ORIGINS.")
