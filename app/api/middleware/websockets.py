"""The answer to a WebSocket handshake where there is no WebSocket."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.middleware.refusals import refuse
from app.domain.errors import NoWebSocket


class WebSocketMiddleware:
    """Answers handshakes that the server has left to us as HTTP requests with `error`. Plain ASGI.

    Any other request for an upgrade is served without it.
    """

    def __init__(self, app: ASGIApp, error: NoWebSocket) -> None:
        self._app = app
        self._error = error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _is_handshake(scope):
            await refuse(self._error, scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _is_handshake(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    asked = headers.get("upgrade", "").lower() == "websocket" and "sec-websocket-key" in headers
    return asked and scope["method"] == "GET"
