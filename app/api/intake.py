"""A request's way through the service: a place in the queue, the upload, a job in a thread."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from fastapi import Request
from structlog.contextvars import bind_contextvars

from app.api import request_limits as rate_limits
from app.api.request_state import client_name, record_of, request_id_of
from app.api.uploads import FormLayout, Upload, receive_upload
from app.domain.errors import ClientGone, DeadlineExceeded, ShuttingDown, StageFailed
from app.domain.transcript import Audio, Transcript
from app.engine.work import Work
from app.formats.text import text_of
from app.observability.metrics import OTHER
from app.observability.record import RequestRecord
from app.observability.stages import Stage
from app.pipeline.optional_stages import WARNING_KINDS
from app.service.admission import Ticket
from app.service.service import Service

T = TypeVar("T")
Wanted = TypeVar("Wanted")
# What is wanted, of the values of the form's fields; raises UnsupportedOption.
Parse = Callable[[Mapping[str, list[str]]], Wanted]

ANSWER_S = 5.0  # for a job to say itself that its time is over


def resolve_model(service: Service, model: str) -> str:
    """The canonical name. Raises UnknownModel."""
    return service.catalog.resolve(model or service.catalog.default_model)


@asynccontextmanager
async def admitted(
    service: Service, request: Request, kind: str, layout: FormLayout, parse: Parse[Wanted]
) -> AsyncIterator[tuple[Ticket, Upload, Wanted]]:
    """A place in the queue, the upload on disk and what is wanted of it, until the block ends."""
    record = record_of(request)
    work = Work(request_id_of(request), service.settings.request_timeout_s, record.stages)
    try:
        with service.admission.enter(kind, work, client_name(request.scope)) as ticket:
            request.state.request_id = work.request_id  # another one, where it was taken
            bind_contextvars(request_id=work.request_id)
            # with a place: who is sent to another replica for want of one is counted there
            ticket.charge = await rate_limits.admit(request, work)
            parse({})  # a wrong value in the query is refused before the upload is read
            async with AsyncExitStack() as files:
                receiving = receive_upload(request, service, work, layout)
                with record.stages.measure(Stage.UPLOAD):
                    upload = await files.enter_async_context(receiving)
                record.upload_bytes = upload.num_bytes
                yield ticket, upload, parse(upload.lists)
    except asyncio.CancelledError:
        # by the server, when its grace is over; the client shall hear that, not a broken line
        work.cancel(ShuttingDown())
        raise ShuttingDown from None


async def run(service: Service, request: Request, ticket: Ticket, job: Callable[[], T]) -> T:
    """What a job gives back; it is given up when the client hangs up."""
    work = ticket.work
    running = asyncio.wrap_future(start(service, job))
    gone = asyncio.ensure_future(hung_up(request))
    both: set[asyncio.Future[Any]] = {running, gone}
    try:
        await asyncio.wait(
            both, timeout=work.left_s + ANSWER_S, return_when=asyncio.FIRST_COMPLETED
        )
        if gone.done() and not running.done():
            work.cancel(ClientGone())
        elif not running.done():  # a stage that cannot be broken off
            work.cancel(DeadlineExceeded())
            raise DeadlineExceeded
        return await running
    finally:
        gone.cancel()


def start(service: Service, job: Callable[[], T]) -> Future[T]:
    """Run a job in a thread of its own."""

    def guarded() -> T:
        try:
            return job()
        except SystemExit as error:  # out of a library; it must not end the event loop's thread
            raise StageFailed("A stage ended before its time.") from error

    context = contextvars.copy_context()  # what is logged there belongs to this request too
    return service.threads.submit(context.run, guarded)


async def hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


# -- in a thread ---------------------------------------------------------------------------------


def decode(
    service: Service,
    path: Path,
    work: Work,
    raw_pcm: bool = False,
    max_duration_s: float | None = None,
    stop_after_s: float | None = None,
    audio_track: str = "",
) -> Audio:
    max_duration_s = max_duration_s or service.settings.max_duration_s
    job = service.decode_pool.submit(path, max_duration_s, raw_pcm, stop_after_s, audio_track)
    with work.stages.measure_queued(Stage.DECODE, job):
        return job.audio(lambda future: work.wait(work.track(future)))


def decode_upload(
    service: Service,
    upload: Upload,
    ticket: Ticket,
    record: RequestRecord,
    raw_pcm: bool = False,
    stop_after_s: float | None = None,
    audio_track: str = "",
) -> Audio:
    """The recording that a request is about: weighed, and known to its record."""
    audio = decode(
        service,
        upload.path,
        ticket.work,
        raw_pcm,
        stop_after_s=stop_after_s,
        audio_track=audio_track,
    )
    _weigh(service, ticket, record, audio.duration_s)
    return audio


def decode_channels(
    service: Service,
    upload: Upload,
    ticket: Ticket,
    record: RequestRecord,
    raw_pcm: bool = False,
    audio_track: str = "",
) -> list[Audio]:
    """As `decode_upload`, each channel by itself; each weighs as much as a recording."""
    work = ticket.work
    job = service.decode_pool.submit(
        upload.path,
        service.settings.max_duration_s,
        raw_pcm,
        audio_track=audio_track,
        split_channels=True,
    )
    with work.stages.measure_queued(Stage.DECODE, job):
        channels = job.channels(lambda future: work.wait(work.track(future)))
    _weigh(service, ticket, record, sum(audio.duration_s for audio in channels))
    return channels


def _weigh(service: Service, ticket: Ticket, record: RequestRecord, audio_s: float) -> None:
    service.admission.weigh(ticket, audio_s)
    record.audio_s = audio_s


def warning_headers(warnings: Sequence[str]) -> dict[str, str]:
    return {"X-ASR-Warning": " ".join(warnings)} if warnings else {}


def note_transcript(service: Service, record: RequestRecord, transcript: Transcript) -> None:
    """What log and metrics say of it."""
    record.warnings = tuple(WARNING_KINDS.get(text, OTHER) for text in transcript.warnings)
    if service.settings.log_transcripts:
        record.text = text_of(transcript.segments)
