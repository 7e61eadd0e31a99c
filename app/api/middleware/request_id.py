"""X-Request-ID on every response: the client's own if it is harmless, else a new one."""

from __future__ import annotations

import re
import secrets

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

HEADER = "X-Request-ID"
HARMLESS = re.compile(r"[A-Za-z0-9._-]{1,128}")


class RequestIdMiddleware:
    """Plain ASGI, so that bodies stream through untouched."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(HEADER, "")
        request_id = given if HARMLESS.fullmatch(given) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[HEADER] = scope["state"]["request_id"]
            await send(message)

        with bound_contextvars(request_id=request_id):  # on every log line of the request
            await self._app(scope, receive, send_with_id)
