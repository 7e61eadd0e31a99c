"""POST /asr and /detect-language: the contract of whisper-asr-webservice and its successors."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response

from app.api import intake as jobs
from app.api.asr import documentation
from app.api.asr.parameters import (
    AsrParameters,
    AsrRequest,
    DetectParameters,
    DetectRequest,
    Dialect,
    parse_asr_request,
    parse_detect_request,
)
from app.api.parameters import merge_parameters
from app.api.request_state import record_of
from app.api.sse import Event, Tell, Wire, open_stream
from app.api.statuses import status_of
from app.api.uploads import ASR_FORM, Upload
from app.domain.errors import ServiceError
from app.domain.languages import language_name
from app.domain.options import TranscribeOptions
from app.domain.transcript import Audio, LanguageGuess, Segment, Transcript
from app.formats import asr as formats
from app.observability.record import RequestRecord
from app.observability.stages import Stage
from app.pipeline.channels import transcribe_channels
from app.pipeline.flow import NOBODY, Listener
from app.service.admission import Ticket
from app.service.service import Service

ENGINE = {"Asr-Engine": "whisperx"}
# How much of a recording is decoded to hear its language, and again if there was no speech in it.
DETECTION_PREFIX_S = 300.0


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

        def parse(fields: Mapping[str, list[str]]) -> AsrRequest:
            given = merge_parameters(fields, request.query_params)
            wanted = parse_asr_request(given, Dialect(service.settings.default_dialect))
            record.dialect = wanted.dialect
            record.model = jobs.resolve_model(service, wanted.model)
            return replace(wanted, model=record.model)

        async with AsyncExitStack() as stack:
            admitted = jobs.admitted(service, request, "transcription", ASR_FORM, parse)
            ticket, upload, wanted = await stack.enter_async_context(admitted)
            ticket.model = wanted.model
            if wanted.stream:
                return await open_stream(
                    service,
                    request,
                    ticket,
                    stack,
                    lambda tell: _stream(service, upload, wanted, ticket, record, tell),
                    Wire(lambda: _progress(ticket), _error_event, ENGINE),
                )
            answer = await jobs.run(
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

        def parse(fields: Mapping[str, list[str]]) -> DetectRequest:
            wanted = parse_detect_request(merge_parameters(fields, request.query_params))
            record.model = jobs.resolve_model(service, wanted.model)
            return replace(wanted, model=record.model)

        async with jobs.admitted(service, request, "detection", ASR_FORM, parse) as admitted:
            ticket, upload, wanted = admitted
            ticket.model = wanted.model
            guess = await jobs.run(
                service, request, ticket, lambda: _detect(service, upload, wanted, ticket, record)
            )
        body = {
            "detected_language": language_name(guess.language),
            "language_code": guess.language,
            "confidence": round(guess.probability, 4),
        }
        return Response(json.dumps(body), media_type="application/json")

    return router


# -- in a thread ---------------------------------------------------------------------------------


def _transcribe(
    service: Service,
    upload: Upload,
    wanted: AsrRequest,
    ticket: Ticket,
    record: RequestRecord,
    listener: Listener = NOBODY,
) -> _Answer:
    options = TranscribeOptions(
        model=wanted.model,
        language=wanted.language,
        multilingual=wanted.multilingual,
        task=wanted.task,
        initial_prompt=wanted.initial_prompt,
        hotwords=wanted.hotwords,
        diarize=wanted.diarize,
        speakers=wanted.speakers,
    )
    transcript = _listen(service, upload, wanted, ticket, record, options, listener)
    with record.stages.measure(Stage.FORMAT):
        shape = _shape(wanted)
        body = formats.write(transcript, wanted.output, shape, service.subtitle_style).encode()
    jobs.note_transcript(service, record, transcript)
    return _Answer(body, transcript.warnings)


def _listen(
    service: Service,
    upload: Upload,
    wanted: AsrRequest,
    ticket: Ticket,
    record: RequestRecord,
    options: TranscribeOptions,
    listener: Listener,
) -> Transcript:
    raw_pcm, track = not wanted.encode, wanted.audio_track

    def transcribe(audio: Audio, options: TranscribeOptions, listener: Listener) -> Transcript:
        return service.transcriber.transcribe(audio, options, ticket.work, listener)

    if wanted.by_channel:
        channels = jobs.decode_channels(service, upload, ticket, record, raw_pcm, track)
        return transcribe_channels(transcribe, channels, options, listener)
    audio = jobs.decode_upload(service, upload, ticket, record, raw_pcm=raw_pcm, audio_track=track)
    return transcribe(audio, options, listener)


def _shape(wanted: AsrRequest) -> formats.JsonShape:
    return formats.JsonShape(
        text_is_string=wanted.dialect is Dialect.WEBSERVICE,
        with_words=wanted.word_timestamps,
        with_embeddings=wanted.speaker_embeddings,
    )


def _stream(
    service: Service,
    upload: Upload,
    wanted: AsrRequest,
    ticket: Ticket,
    record: RequestRecord,
    tell: Tell,
) -> None:
    """Tell of each chunk's text and of each segment that is final; last comes the whole answer."""

    def recognized(segment: Segment) -> None:
        tell(Event("text", formats.segment_json(segment, with_words=False)))
        tell(_progress(ticket))

    def settled(segment: Segment) -> None:
        tell(Event("segment", formats.segment_json(segment, wanted.word_timestamps)))

    listener = Listener(recognized, settled)
    answer = _transcribe(service, upload, wanted, ticket, record, listener)
    ticket.work.progress = 1.0
    tell(_progress(ticket))
    tell(Event("result", answer.body))


def _progress(ticket: Ticket) -> Event:
    elapsed_s = time.monotonic() - ticket.work.stages.started
    return Event(
        "progress",
        {"progress": round(ticket.work.progress, 3), "elapsed_seconds": round(elapsed_s, 1)},
    )


def _error_event(error: ServiceError) -> Event:
    return Event("error", {"detail": error.message, "status": status_of(error)})


def _detect(
    service: Service, upload: Upload, wanted: DetectRequest, ticket: Ticket, record: RequestRecord
) -> LanguageGuess:
    prefix_s: float | None = DETECTION_PREFIX_S
    while True:
        audio = jobs.decode_upload(
            service,
            upload,
            ticket,
            record,
            raw_pcm=not wanted.encode,
            stop_after_s=prefix_s,
            audio_track=wanted.audio_track,
        )
        is_all = prefix_s is None or audio.duration_s < prefix_s
        guess = service.transcriber.detect_language(audio, wanted.model, ticket.work, is_all)
        if guess is not None:
            return guess
        prefix_s = None


# -- the answer ----------------------------------------------------------------------------------


def _file_response(answer: _Answer, wanted: AsrRequest, file_name: str) -> Response:
    headers = {
        **ENGINE,
        "Content-Disposition": content_disposition(file_name, formats.EXTENSIONS[wanted.output]),
        **jobs.warning_headers(answer.warnings),
    }
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
