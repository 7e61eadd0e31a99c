"""Server-sent events of a running job.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.api.intake import ANSWER_S, Intake, Wanted, failure_of, hung_up
from app.api.keepalive import UNBUFFERED, Spacing, answer_spaced
from app.api.request_state import report_error
from app.domain.errors import ClientGone, DeadlineExceeded, ServiceError

Headers = Mapping[str, str]

HEARTBEAT_S = 5.0  # proxies give up after a silent minute
FIRST_WAIT_S = 25.0  # a failure before that still gets its own status


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `name` empty: a comment, which readers skip."""

    name: str
    data: dict[str, Any] | bytes  # bytes: JSON already written, on one line

    def encode(self) -> bytes:
        if not self.name:
            return b": still at work\n\n"
        data = self.data
        if not isinstance(data, bytes):
            data = json.dumps(data, ensure_ascii=False, allow_nan=False).encode()
        return b"event: %s\ndata: %s\n\n" % (self.name.encode(), data)


@dataclass(frozen=True, slots=True)
class Wire:
    """How a dialect streams. `heartbeat` fills pauses; `describe` turns an error into an event."""

    heartbeat: Callable[[], Event]
    describe: Callable[[ServiceError], Event]
    headers: Headers = field(default_factory=dict)


Tell = Callable[[Event], None]  # any thread


class Answering(Protocol):
    """One request's answer in its contract: whole, or as a stream. Both run in its thread."""

    @property
    def intake(self) -> Intake[Any]: ...

    @property
    def wire(self) -> Wire | None:
        """None: the client wants the whole answer."""

    @property
    def spacing(self) -> Spacing | None:
        """Whether spaces may come before the whole answer."""

    def answer(self) -> Response: ...

    def stream(self, tell: Tell) -> None: ...


async def respond(
    admitting: AbstractAsyncContextManager[Intake[Wanted]],
    begin: Callable[[Intake[Wanted]], Answering],
) -> Response:
    """Admit a request and answer it, whole or as a stream."""
    async with AsyncExitStack() as stack:
        answering = begin(await stack.enter_async_context(admitting))
        wire = answering.wire
        spacing = answering.spacing
        if wire is not None:
            return await open_stream(answering.intake, stack, answering.stream, wire)
        if spacing is not None:
            return await answer_spaced(answering.intake, stack, answering.answer, spacing)
        return await answering.intake.run(answering.answer)


async def open_stream(
    intake: Intake[Any], stack: AsyncExitStack, job: Callable[[Tell], None], wire: Wire
) -> Response:
    """An answer that sends the job's events. Closes `stack` after the last one.

    The answer begins with the first event, so that an earlier failure gets its own status.

    Raises:
        ServiceError: the job failed before its first event.
    """
    told = Told(intake, job)
    try:
        first = await told.next(FIRST_WAIT_S)
    except BaseException:
        told.close()
        raise

    async def events() -> AsyncIterator[bytes]:
        yield first or wire.heartbeat().encode()
        try:
            while not told.ended:
                if event := await told.next(HEARTBEAT_S):
                    yield event
                elif not told.ended:
                    yield wire.heartbeat().encode()
        except ServiceError as error:
            report_error(intake.request, error)
            if not isinstance(error, ClientGone):
                yield wire.describe(error).encode()

    return EventStream(events(), told, stack.pop_all(), wire.headers)


class Told:
    """A job's encoded events, in order."""

    def __init__(self, intake: Intake[Any], job: Callable[[Tell], None]) -> None:
        loop = asyncio.get_running_loop()
        self.ended = False  # set once all events are read
        self.job_over = asyncio.Event()
        self._work = intake.call.work
        self._queue: asyncio.Queue[bytes | ServiceError | None] = asyncio.Queue()

        def put(told: bytes | ServiceError | None) -> None:
            loop.call_soon_threadsafe(self._queue.put_nowait, told)

        def end(done: Future[None]) -> None:
            put(failure_of(done))
            loop.call_soon_threadsafe(self.job_over.set)

        running = intake.service.threads.start(lambda: job(lambda event: put(event.encode())))
        running.add_done_callback(end)
        self._gone = asyncio.ensure_future(hung_up(intake.request))
        self._gone.add_done_callback(self._give_up)

    def _give_up(self, gone: asyncio.Future[None]) -> None:
        if not gone.cancelled():
            self._work.cancel(ClientGone())

    async def next(self, wait_s: float) -> bytes | None:
        """The next event; None if none comes within `wait_s`, or after the last.

        Raises:
            ServiceError: the job failed; DeadlineExceeded if it overruns its deadline.
        """
        try:
            async with asyncio.timeout(min(wait_s, self._work.left_s + ANSWER_S)):
                told = await self._queue.get()
        except TimeoutError:
            if self._work.left_s > 0:
                return None
            # a stage that cannot be interrupted
            self._work.cancel(DeadlineExceeded())
            raise DeadlineExceeded from None
        if isinstance(told, ServiceError):
            raise told
        self.ended = told is None
        return told

    def close(self) -> None:
        self._gone.cancel()
        self._work.cancel(ClientGone("Nobody reads the answer."))


class EventStream(Response):
    """Streams events. Frees the request's resources as soon as its job ends, even if the client
    reads the rest slowly.
    """

    media_type = "text/event-stream"

    def __init__(
        self, events: AsyncIterator[bytes], told: Told, stack: AsyncExitStack, headers: Headers
    ) -> None:
        super().__init__(headers={**UNBUFFERED, **headers})
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
        releasing = asyncio.ensure_future(self._release())
        try:
            await send(start)
            async for event in self._events:
                await send({"type": "http.response.body", "body": event, "more_body": True})
        finally:
            self._told.close()
            # as long as any other answer may take
            await asyncio.wait({releasing}, timeout=ANSWER_S)
            releasing.cancel()
            await self._stack.aclose()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _release(self) -> None:
        await self._told.job_over.wait()
        await self._stack.aclose()
