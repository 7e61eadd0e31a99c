"""POST /asr and /detect-language: the contract of whisper-asr-webservice and its successors."""

from __future__ import annotations

import asyncio
import contextvars
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response
from structlog.contextvars import bind_contextvars

from app import formats
from app.admission import Ticket, cut_off
from app.api import documentation, rate_limits
from app.api.keys import client_name
from app.api.observation import record_of
from app.api.request_id import request_id_of
from app.api.schemas import (
    AsrParameters,
    AsrRequest,
    DetectParameters,
    DetectRequest,
    Dialect,
    merge_parameters,
    parse_asr_request,
    parse_detect_request,
)
from app.api.uploads import Upload, receive_upload
from app.batching import Work
from app.errors import ClientGone, DeadlineExceeded, StageFailed
from app.languages import language_name
from app.metrics import OTHER
from app.record import RequestRecord
from app.service import Service
from app.stages import Stage
from app.transcriber import WARNING_KINDS
from app.transcript import Audio, LanguageGuess, TranscribeOptions

T = TypeVar("T")
Wanted = TypeVar("Wanted")

# How much of a recording is decoded to hear its language, and again if there was no speech in it.
DETECTION_PREFIXES_S = (60.0, None)
ANSWER_S = 5.0  # for a job to say itself that its time is over
TOO_LATE = "The request took longer than it may."


@dataclass(frozen=True, slots=True)
class _Answer:
    body: bytes
    warnings: tuple[str, ...] = ()


def build_router(service: Service) -> APIRouter:
    router = APIRouter(tags=["transcription"])

    @router.post(
        "/asr",
        summary="Transcribe an audio or video file",
        description=documentation.ASR,
        openapi_extra=documentation.FORM,
        responses=documentation.ASR_RESPONSES,
    )
    async def asr(request: Request, parameters: Annotated[AsrParameters, Query()]) -> Response:
        record = record_of(request)

        def parse(given: Mapping[str, str]) -> AsrRequest:
            wanted = parse_asr_request(given, Dialect(service.settings.default_dialect))
            record.dialect, record.model = wanted.dialect, _resolve(service, wanted.model)
            return replace(wanted, model=record.model)

        async with _admitted(service, request, "transcription", parse) as (ticket, upload, wanted):
            ticket.model = wanted.model
            answer = await _run(
                service,
                request,
                ticket,
                lambda: _transcribe(service, upload, wanted, ticket, record),
            )
        return _file_response(answer, wanted, upload.file_name)

    @router.post(
        "/detect-language",
        summary="Detect the language spoken in a file",
        description=documentation.DETECT,
        openapi_extra=documentation.FORM,
        responses=documentation.DETECT_RESPONSES,
    )
    async def detect_language(
        request: Request, parameters: Annotated[DetectParameters, Query()]
    ) -> Response:
        record = record_of(request)

        def parse(given: Mapping[str, str]) -> DetectRequest:
            wanted = parse_detect_request(given)
            record.model = _resolve(service, wanted.model)
            return replace(wanted, model=record.model)

        async with _admitted(service, request, "detection", parse) as (ticket, upload, wanted):
            ticket.model = wanted.model
            guess = await _run(
                service, request, ticket, lambda: _detect(service, upload, wanted, ticket, record)
            )
        body = {
            "detected_language": language_name(guess.language),
            "language_code": guess.language,
            "confidence": round(guess.probability, 4),
        }
        return Response(json.dumps(body), media_type="application/json")

    return router


def _resolve(service: Service, model: str) -> str:
    return service.catalog.resolve(model or service.catalog.default_model)


@asynccontextmanager
async def _admitted(
    service: Service, request: Request, kind: str, parse: Callable[[Mapping[str, str]], Wanted]
) -> AsyncIterator[tuple[Ticket, Upload, Wanted]]:
    """A place in the queue, the upload on disk and what is wanted of it, until the block ends."""
    record = record_of(request)
    work = Work(request_id_of(request), service.settings.request_timeout_s, record.stages)
    query = request.query_params
    try:
        charge = await rate_limits.admit(request, work)
        with service.admission.enter(kind, work, client_name(request.scope), charge) as ticket:
            request.state.request_id = work.request_id  # another one, where it was taken
            bind_contextvars(request_id=work.request_id)
            parse(merge_parameters({}, query))  # a wrong value is refused before the upload is read
            async with AsyncExitStack() as files:
                receiving = receive_upload(request, service, work)
                with record.stages.measure(Stage.UPLOAD):
                    upload = await files.enter_async_context(receiving)
                record.upload_bytes = upload.num_bytes
                yield ticket, upload, parse(merge_parameters(upload.fields, query))
    except asyncio.CancelledError:
        # by the server, when its grace is over; the client shall hear that, not a broken line
        work.cancel(cut_off())
        raise cut_off() from None


async def _run(service: Service, request: Request, ticket: Ticket, job: Callable[[], T]) -> T:
    """Run a job in a thread of its own; give it up when the client hangs up."""
    work = ticket.work
    context = contextvars.copy_context()  # what is logged there belongs to this request too
    running = asyncio.wrap_future(service.threads.submit(context.run, job))
    gone = asyncio.ensure_future(_hung_up(request))
    both: set[asyncio.Future[Any]] = {running, gone}
    try:
        await asyncio.wait(
            both, timeout=work.left_s + ANSWER_S, return_when=asyncio.FIRST_COMPLETED
        )
        if gone.done() and not running.done():
            work.cancel(ClientGone("The client hung up."))
        elif not running.done():  # a stage that cannot be broken off
            work.cancel(DeadlineExceeded(TOO_LATE))
            raise DeadlineExceeded(TOO_LATE)
        return await running
    except SystemExit as error:  # out of a library, in the job's thread; it must not end this one
        raise StageFailed("A stage ended before its time.") from error
    finally:
        gone.cancel()


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


# -- in a thread ---------------------------------------------------------------------------------


def _decode(
    service: Service, upload: Upload, encode: bool, ticket: Ticket, prefix_s: float | None = None
) -> Audio:
    job = service.decoding.submit(
        upload.path,
        service.settings.max_duration_s,
        raw_pcm=not encode,
        stop_after_s=prefix_s,
    )
    work = ticket.work
    with work.stages.measure_turn(Stage.DECODE, job):
        audio = job.audio(lambda future: work.wait(work.track(future)))
    service.admission.weigh(ticket, audio.duration_s)
    return audio


def _transcribe(
    service: Service, upload: Upload, wanted: AsrRequest, ticket: Ticket, record: RequestRecord
) -> _Answer:
    audio = _decode(service, upload, wanted.encode, ticket)
    record.audio_s = audio.duration_s
    options = TranscribeOptions(
        model=wanted.model,
        language=wanted.language,
        task=wanted.task,
        initial_prompt=wanted.initial_prompt,
        hotwords=wanted.hotwords,
        diarize=wanted.diarize,
        speakers=wanted.speakers,
    )
    transcript = service.transcriber.transcribe(audio, options, ticket.work)
    shape = formats.JsonShape(
        text_is_string=wanted.dialect is Dialect.WEBSERVICE,
        with_words=wanted.word_timestamps,
        with_embeddings=wanted.speaker_embeddings,
    )
    with record.stages.measure(Stage.FORMAT):
        body = formats.write(transcript, wanted.output, shape, service.subtitle_style).encode()
    record.warnings = tuple(WARNING_KINDS.get(text, OTHER) for text in transcript.warnings)
    if service.settings.log_transcripts:
        record.text = "".join(segment.text for segment in transcript.segments).strip()
    return _Answer(body, transcript.warnings)


def _detect(
    service: Service, upload: Upload, wanted: DetectRequest, ticket: Ticket, record: RequestRecord
) -> LanguageGuess:
    work = ticket.work
    for prefix_s in DETECTION_PREFIXES_S:
        audio = _decode(service, upload, wanted.encode, ticket, prefix_s)
        record.audio_s = audio.duration_s
        whole = prefix_s is None or audio.duration_s < prefix_s
        if whole or service.transcriber.has_speech(audio, work):
            break
    return service.transcriber.detect_language(audio, wanted.model, work)


# -- the answer ----------------------------------------------------------------------------------


def _file_response(answer: _Answer, wanted: AsrRequest, file_name: str) -> Response:
    headers = {
        "Asr-Engine": "whisperx",
        "Content-Disposition": content_disposition(file_name, formats.EXTENSIONS[wanted.output]),
    }
    if answer.warnings:
        headers["X-ASR-Warning"] = " ".join(answer.warnings)
    is_json = wanted.output == "json"
    media_type = "application/json" if is_json else "text/plain; charset=utf-8"
    return Response(answer.body, media_type=media_type, headers=headers)


def content_disposition(file_name: str, extension: str) -> str:
    """A header that nothing in a file name can break out of. Source: RFC 6266, RFC 5987."""
    base = file_name.replace("\\", "/").rsplit("/", 1)[-1]
    shown = "".join(c for c in base if c.isprintable()).strip(" .")[-150:]
    name = f"{shown or 'audio'}.{extension}"
    plain = "".join(c if c.isascii() and c not in '"%;' else "_" for c in name)
    if plain == name:
        return f'attachment; filename="{plain}"'
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
