"""Spaces before a JSON answer while it is in the making, for proxies that close idle connections.

JSON allows them. The status is 200 by then, so an error after the first space is in the body.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.api.intake import ANSWER_S, Intake, failure_of
from app.api.request_state import report_error
from app.api.statuses import status_of
from app.domain.errors import ClientGone, ServiceError

UNBUFFERED = {
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # else nginx keeps what it should pass on
}


@dataclass(frozen=True, slots=True)
class Spacing:
    """`every_s`: seconds between two bytes. `headers`: of an answer that begins with a space."""

    every_s: float
    headers: Mapping[str, str]


async def answer_spaced(
    intake: Intake[Any], stack: AsyncExitStack, answer: Callable[[], Response], spacing: Spacing
) -> Response:
    """The answer, or one that begins with spaces if it takes long. That one closes `stack`.

    Raises:
        ServiceError: the job failed before the first space.
    """
    running = asyncio.ensure_future(intake.run(answer))
    try:
        await asyncio.wait({running}, timeout=spacing.every_s)
        if running.done():
            return await running
    except BaseException:
        running.cancel()
        raise
    return SpacedAnswer(intake, stack.pop_all(), running, spacing)


class SpacedAnswer(Response):
    """Sends a space now and then until the job ends, then its answer or what went wrong."""

    media_type = "application/json"

    def __init__(
        self,
        intake: Intake[Any],
        stack: AsyncExitStack,
        running: asyncio.Future[Response],
        spacing: Spacing,
    ) -> None:
        super().__init__(headers={**UNBUFFERED, **spacing.headers})
        del self.headers["content-length"]
        self._intake = intake
        self._stack = stack
        self._running = running
        self._every_s = spacing.every_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {
            "type": "http.response.start",
            "status": self.status_code,
            "headers": self.raw_headers,
        }
        try:
            await send(start)
            while not self._running.done():
                await send({"type": "http.response.body", "body": b" ", "more_body": True})
                await asyncio.wait({self._running}, timeout=self._every_s)
        finally:
            self._running.cancel()
            await asyncio.wait({self._running}, timeout=ANSWER_S)
            await self._stack.aclose()
        await send({"type": "http.response.body", "body": self._body(), "more_body": False})

    def _body(self) -> bytes:
        error = failure_of(self._running)
        if error is None:
            return bytes(self._running.result().body)
        report_error(self._intake.request, error)
        return b"" if isinstance(error, ClientGone) else _described(error)


def _described(error: ServiceError) -> bytes:
    return json.dumps({"detail": error.message, "status": status_of(error)}).encode()
