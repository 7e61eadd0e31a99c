"""Server-sent events of a job, while it runs.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Future
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.admission import Ticket, cut_off
from app.api import jobs
from app.api.errors import report_error
from app.errors import ClientGone, DeadlineExceeded, ServiceError, StageFailed
from app.service import Service

log = logging.getLogger(__name__)

Headers = Mapping[str, str]

HEARTBEAT_S = 5.0  # a proxy that hears nothing for a minute gives up
HEADERS = {
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would hold the events back
}


@dataclass(frozen=True, slots=True)
class Event:
    """`name` empty: a comment, which readers skip."""

    name: str
    data: dict[str, Any]

    def encode(self) -> bytes:
        if not self.name:
            return b": still at work\n\n"
        data = json.dumps(self.data, ensure_ascii=False, allow_nan=False)
        return f"event: {self.name}\ndata: {data}\n\n".encode()


@dataclass(frozen=True, slots=True)
class Wire:
    """How a dialect streams. `heartbeat` is sent where nothing else is for a while, `describe`
    makes an event of an error.
    """

    heartbeat: Callable[[], Event]
    describe: Callable[[ServiceError], Event]
    headers: Headers = field(default_factory=dict)


Tell = Callable[[Event], None]  # any thread


async def open_stream(
    service: Service,
    request: Request,
    ticket: Ticket,
    stack: AsyncExitStack,
    job: Callable[[Tell], None],
    wire: Wire,
) -> Response:
    """An answer that sends what the job tells. `stack` is closed after the last of it.

    It begins with the first event, so that whatever fails before has its own status.

    Raises:
        ServiceError: out of the job, before it told anything.
    """
    told = Told(service, request, ticket, job)
    try:
        first = await anext(told)
    except BaseException:
        told.close()
        raise

    async def events() -> AsyncIterator[Event]:
        yield first or wire.heartbeat()
        try:
            async for event in told:
                yield event or wire.heartbeat()
        except ServiceError as error:
            report_error(request, error)
            if not isinstance(error, ClientGone):
                yield wire.describe(error)

    return EventStream(events(), told, stack.pop_all(), wire.headers)


class Told(AsyncIterator[Event | None]):
    """What the job tells, in order; None where that is nothing for a while.

    Iterating raises the ServiceError that the job failed with, or DeadlineExceeded.
    """

    def __init__(
        self, service: Service, request: Request, ticket: Ticket, job: Callable[[Tell], None]
    ) -> None:
        loop = asyncio.get_running_loop()
        self._work = ticket.work
        self._queue: asyncio.Queue[Event | ServiceError | None] = asyncio.Queue()

        def put(told: Event | ServiceError | None) -> None:
            loop.call_soon_threadsafe(self._queue.put_nowait, told)

        jobs.start(service, lambda: job(put)).add_done_callback(lambda done: put(_failure(done)))
        self._gone = asyncio.ensure_future(jobs.hung_up(request))
        self._gone.add_done_callback(self._give_up)

    def _give_up(self, gone: asyncio.Future[None]) -> None:
        if not gone.cancelled():
            self._work.cancel(ClientGone("The client hung up."))

    async def __anext__(self) -> Event | None:
        try:
            async with asyncio.timeout(HEARTBEAT_S):
                told = await self._queue.get()
        except TimeoutError:
            if self._work.left_s > 0:
                return None
            # a stage that cannot be broken off
            self._work.cancel(DeadlineExceeded())
            raise DeadlineExceeded from None
        if told is None:
            raise StopAsyncIteration
        if isinstance(told, ServiceError):
            raise told
        return told

    def close(self) -> None:
        self._gone.cancel()
        self._work.cancel(ClientGone("Nobody reads the answer."))


def _failure(done: Future[None]) -> ServiceError | None:
    """What a job ended with, in the service's own terms."""
    if done.cancelled():
        return cut_off()
    error = done.exception()
    if error is None or isinstance(error, ServiceError):
        return error
    log.error("a job failed", exc_info=error)
    return StageFailed("The service failed on this request.")


class EventStream(Response):
    """Holds what the request holds until its last event is out."""

    media_type = "text/event-stream"

    def __init__(
        self, events: AsyncIterator[Event], told: Told, stack: AsyncExitStack, headers: Headers
    ) -> None:
        super().__init__(headers={**HEADERS, **headers})
        del self.headers["content-length"]
        self._events = events
        self._told = told
        self._stack = stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {
            "type": "http.response.start",
            "status": self.status_code,
            "headers": self.raw_headers,
        }
        async with self._stack:
            try:
                await send(start)
                async for event in self._events:
                    body = event.encode()
                    await send({"type": "http.response.body", "body": body, "more_body": True})
            finally:
                self._told.close()
        # once all is given back, as with any other answer
        await send({"type": "http.response.body", "body": b"", "more_body": False})
