"""Reads what a client still sends when its answer is ready."""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

DRAIN_BYTES = 32 << 20
DRAIN_TIMEOUT_S = 10.0
DRAIN_STEP_BYTES = 16 << 10  # per DRAIN_STEP_S; we do not wait for slower clients
DRAIN_STEP_S = 0.5


class UnreadBodyMiddleware:
    """Reads the rest of a request's body for a while before the answer leaves. Plain ASGI.

    A client that is still sending may not look for the answer before it is done, and would see a
    reset connection instead. One that has not finished by then is cut off after the answer.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not has_body(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        body = UnreadBody(receive, begun="expect" not in Headers(scope=scope))

        async def send_after_body(message: Message) -> None:
            if message["type"] == "http.response.start" and not body.ended:
                await body.drain()
                if not body.ended:
                    MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        await self._app(scope, body.receive, send_after_body)


def has_body(headers: Headers) -> bool:
    """Whether the headers announce a body."""
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


class UnreadBody:
    """`begun`: the client is sending; with `Expect: 100-continue` it waits until we read."""

    def __init__(self, receive: Receive, begun: bool) -> None:
        self._receive = receive
        self._begun = begun
        self.ended = False

    async def receive(self) -> Message:
        self._begun = True
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self.ended = True
        return message

    async def drain(self) -> None:
        left = DRAIN_BYTES if self._begun else 0
        try:
            async with asyncio.timeout(DRAIN_TIMEOUT_S):
                while left > 0 and not self.ended:
                    async with asyncio.timeout(DRAIN_STEP_S):
                        left -= await self._drain_step()
        except TimeoutError:
            return

    async def _drain_step(self) -> int:
        num_bytes = 0
        while num_bytes < DRAIN_STEP_BYTES and not self.ended:
            num_bytes += len((await self.receive()).get("body", b""))
        return num_bytes
