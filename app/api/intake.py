"""How a request enters: a place in the queue, the upload, then a job in its own thread."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from fastapi import Request
from structlog.contextvars import bind_contextvars

from app.api.forms import FormLayout
from app.api.rate_limits import account_of, admit
from app.api.request_state import client_name, on_answer, record_of
from app.api.uploads import Upload, receive_upload
from app.domain.errors import (
    ClientGone,
    DeadlineExceeded,
    ServiceError,
    ShuttingDown,
    StageFailed,
)
from app.domain.warnings import TranscriptWarning
from app.engine.work import Work
from app.observability.stages import Stage
from app.service.calls import Call
from app.service.recording import Recording
from app.service.service import Service

log = logging.getLogger(__name__)

T = TypeVar("T")
Wanted = TypeVar("Wanted")
# Form fields -> parsed request. Raises UnsupportedOption.
Parse = Callable[[Mapping[str, list[str]]], Wanted]

ANSWER_S = 5.0  # for a job to notice its deadline
HARMFUL = re.compile(r"[^\w.\[\]-]", re.ASCII)  # in a header
MAX_NAME, MAX_NAMES = 40, 20


@dataclass(frozen=True, slots=True)
class Intake(Generic[Wanted]):
    """An admitted request, with its upload on disk and its parsed parameters."""

    service: Service
    request: Request
    call: Call
    upload: Upload
    wanted: Wanted

    def recording(self, raw_pcm: bool = False, audio_track: str = "") -> Recording:
        file, digest = self.upload.file, self.upload.digest
        return Recording(file.path, raw_pcm, audio_track, digest, file.held)

    async def run(self, job: Callable[[], T]) -> T:
        """The job's value. The job is cancelled if the client hangs up."""
        work = self.call.work
        running = asyncio.wrap_future(self.service.threads.start(job))
        running.add_done_callback(_notice)  # also if nobody waits any more
        gone = asyncio.ensure_future(hung_up(self.request))
        both: set[asyncio.Future[Any]] = {running, gone}
        try:
            await asyncio.wait(
                both, timeout=work.left_s + ANSWER_S, return_when=asyncio.FIRST_COMPLETED
            )
            if gone.done() and not running.done():
                work.cancel(ClientGone())
            elif not running.done():  # a stage that cannot be interrupted
                work.cancel(DeadlineExceeded())
                raise DeadlineExceeded
            return await running
        finally:
            gone.cancel()


def _notice(ended: asyncio.Future[Any]) -> None:
    """Else asyncio logs an exception that nobody asked for, with its traceback."""
    if not ended.cancelled():
        ended.exception()


@asynccontextmanager
async def admitted(
    service: Service, request: Request, kind: str, layout: FormLayout, parse: Parse[Wanted]
) -> AsyncIterator[Intake[Wanted]]:
    """A place in the queue, the upload on disk and its parameters, until the block ends."""
    record = record_of(request)
    entering = service.calls.enter(
        kind, record, client_name(request.scope), account_of(request.scope)
    )
    with entering as call:
        request.state.request_id = record.request_id  # changed if it was taken
        on_answer(request, lambda: {"X-ASR-Joined": "true"} if record.joined else {})
        bind_contextvars(request_id=record.request_id)
        try:
            # Only with a place: a request that goes on to another replica is counted there.
            if service.calls.rate_limits.enabled:
                await admit(request, call.account)
            parse({})  # refuses a wrong value in the query before the upload is read
            async with AsyncExitStack() as files:
                receiving = receive_upload(request, service, call.work, layout)
                with record.stages.measure(Stage.UPLOAD), interrupted_by(call.work):
                    upload = await files.enter_async_context(receiving)
                record.upload_bytes = upload.num_bytes
                wanted = parse(upload.lists)
                call.model = record.model
                yield Intake(service, request, call, upload, wanted)
        except asyncio.CancelledError:
            # The server's grace period is over: tell the client instead of closing the connection.
            call.work.cancel(ShuttingDown())
            raise ShuttingDown from None


@contextmanager
def interrupted_by(work: Work) -> Iterator[None]:
    """Ends the block with the reason of `work.cancel` as soon as that is called.

    A client that sends nothing must not hold its place until it does. For the event loop.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    inside, interrupted = True, False

    def interrupt() -> None:
        nonlocal interrupted
        if inside and not interrupted:
            interrupted = True
            task.cancel()

    cancelled: Future[None] = Future()
    cancelled.add_done_callback(lambda _: loop.call_soon_threadsafe(interrupt))
    try:
        work.track(cancelled)
        yield
    except asyncio.CancelledError:
        if interrupted and task.uncancel() == 0:
            work.check()
        raise
    finally:
        inside = False
        with suppress(InvalidStateError):  # cancelled a moment ago
            cancelled.set_result(None)


def resolve_model(service: Service, name: str) -> str:
    """The canonical name; the default model if `name` is empty. Raises UnknownModel."""
    return service.catalog.resolve(name or service.catalog.default_model)


async def hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def failure_of(done: Future[Any] | asyncio.Future[Any]) -> ServiceError | None:
    """The error that a job ended with, as a ServiceError."""
    if done.cancelled():
        return ShuttingDown()
    error = done.exception()
    if error is None or isinstance(error, ServiceError):
        return error
    log.error("a job failed", exc_info=error)
    return StageFailed("The service failed on this request.")


def ignored_headers(ignored: Iterable[str], dropped: Iterable[str]) -> dict[str, str]:
    """Names what was sent and has no effect. `dropped`: files that are no recording."""
    names = [HARMFUL.sub("?", name)[:MAX_NAME] for name in dict.fromkeys((*ignored, *dropped))]
    return {"X-ASR-Ignored": ", ".join(names[:MAX_NAMES])} if names else {}


def warning_headers(warnings: Sequence[TranscriptWarning]) -> dict[str, str]:
    sentences = " ".join(warning.sentence for warning in warnings)
    return {"X-ASR-Warning": sentences} if sentences else {}
