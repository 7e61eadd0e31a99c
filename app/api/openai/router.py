"""/v1/audio/* and /v1/models: OpenAI's contract."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from fastapi import APIRouter, Request, Response

from app.api import intake as jobs
from app.api.head import answer_head
from app.api.openai import documentation
from app.api.openai.bodies import ModelBody, ModelListBody
from app.api.openai.errors import openai_error
from app.api.openai.parameters import (
    OPENAI_FORM,
    REFERENCES,
    OpenAIRequest,
    check_references,
    parse_openai_request,
)
from app.api.request_state import record_of
from app.api.sse import Event, Tell, Wire, open_stream
from app.api.uploads import Upload
from app.domain.errors import UndecodableAudio, UnsupportedOption, UploadTooLarge
from app.domain.options import KnownSpeaker, Task, TranscribeOptions
from app.domain.transcript import Segment, Transcript
from app.engine.model import ModelKind
from app.engine.work import Work
from app.formats import openai as openai_formats
from app.observability.record import RequestRecord
from app.observability.stages import Stage
from app.pipeline.flow import NOBODY, Listener
from app.service.admission import Ticket
from app.service.service import Service
from app.storage.tempdir import told_when_full

DIALECT = "openai"
OWNER = "whisperx-asr-service"
REFERENCE_S = (2.0, 10.0)
SLACK_S = 0.5  # codecs add some silence, and cutting is never exact
TEXT = ("text", "srt", "vtt")


def build_router(service: Service) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["OpenAI"])

    @router.post(
        "/audio/transcriptions",
        summary="Transcribe, as OpenAI's API does",
        description=documentation.OPENAI,
        openapi_extra=documentation.OPENAI_TRANSCRIPTION_FORM,
        responses=documentation.OPENAI_RESPONSES,
    )
    async def transcriptions(request: Request) -> Response:
        return await _answer(service, request, Task.TRANSCRIBE)

    @router.post(
        "/audio/translations",
        summary="Translate into English, as OpenAI's API does",
        description=documentation.OPENAI_TRANSLATION,
        openapi_extra=documentation.OPENAI_TRANSLATION_FORM,
        responses=documentation.OPENAI_RESPONSES,
    )
    async def translations(request: Request) -> Response:
        return await _answer(service, request, Task.TRANSLATE)

    @router.get(
        "/models", summary="The models on offer", responses=documentation.OPENAI_UNAUTHORIZED
    )
    async def models() -> ModelListBody:
        default = service.catalog.default_model
        names = [*service.catalog.names, *service.catalog.aliases]
        ordered = sorted(names, key=lambda name: (name != default, name))
        return ModelListBody(data=[_model(service, name) for name in ordered])

    @router.get(
        "/models/{model:path}",
        summary="One of the models on offer",
        responses=documentation.OPENAI_MODEL_RESPONSES,
    )
    async def model(model: str) -> ModelBody:
        return _model(service, model)

    answer_head(router)
    return router


def _model(service: Service, name: str) -> ModelBody:
    """Raises UnknownModel."""
    canonical = service.catalog.resolve(name)
    loaded = any(
        k.kind is ModelKind.RECOGNIZER and k.name == canonical for k in service.store.loaded()
    )
    return ModelBody(id=name, owned_by=OWNER, loaded=loaded)


async def _answer(service: Service, request: Request, task: Task) -> Response:
    record = record_of(request)
    record.dialect = DIALECT

    def parse(fields: Mapping[str, list[str]]) -> OpenAIRequest:
        wanted = parse_openai_request(fields, task)
        record.model = jobs.resolve_model(service, wanted.model)
        return replace(wanted, model=record.model)

    async with AsyncExitStack() as stack:
        admitted = jobs.admitted(service, request, _kind(task), OPENAI_FORM, parse)
        ticket, upload, wanted = await stack.enter_async_context(admitted)
        check_references(wanted, len(upload.large.get(REFERENCES, [])))
        ticket.model = wanted.model
        if wanted.stream:
            wire = Wire(lambda: Event("", {}), lambda error: Event("error", openai_error(error)))
            return await open_stream(
                service,
                request,
                ticket,
                stack,
                lambda tell: _stream(service, upload, wanted, ticket, record, tell),
                wire,
            )
        return await jobs.run(
            service,
            request,
            ticket,
            lambda: _whole(service, upload, wanted, ticket, record),
        )


def _kind(task: Task) -> str:
    return "translation" if task is Task.TRANSLATE else "transcription"


# -- in a thread ---------------------------------------------------------------------------------


def _whole(
    service: Service, upload: Upload, wanted: OpenAIRequest, ticket: Ticket, record: RequestRecord
) -> Response:
    transcript = _transcribe(service, upload, wanted, ticket, record)
    with record.stages.measure(Stage.FORMAT):
        body = openai_formats.write(transcript, _shape(wanted), service.subtitle_style)
    headers = jobs.warning_headers(transcript.warnings)
    media_type = "text/plain; charset=utf-8" if wanted.output in TEXT else "application/json"
    return Response(body, media_type=media_type, headers=headers)


def _stream(
    service: Service,
    upload: Upload,
    wanted: OpenAIRequest,
    ticket: Ticket,
    record: RequestRecord,
    tell: Tell,
) -> None:
    """The text as soon as a chunk is recognized; who spoke, once that is known."""
    deltas = openai_formats.Deltas(wanted.with_logprobs)

    def tell_data(data: dict[str, Any]) -> None:
        tell(Event(data["type"], data))

    def recognized(segment: Segment) -> None:
        if delta := deltas.delta(segment):
            tell_data(delta)

    transcript = _transcribe(service, upload, wanted, ticket, record, Listener(recognized))
    if wanted.output == "diarized_json":
        for segment in openai_formats.diarized_segments(transcript, wanted.names):
            tell_data(segment)
    tell_data(openai_formats.done(transcript, _shape(wanted)))


def _transcribe(
    service: Service,
    upload: Upload,
    wanted: OpenAIRequest,
    ticket: Ticket,
    record: RequestRecord,
    listener: Listener = NOBODY,
) -> Transcript:
    audio = jobs.decode_upload(service, upload, ticket, record)
    references = upload.large.get(REFERENCES, [])
    options = TranscribeOptions(
        model=wanted.model,
        language=wanted.language,
        languages=wanted.languages,
        multilingual=wanted.multilingual,
        task=wanted.task,
        initial_prompt=wanted.prompt,
        hotwords=wanted.hotwords,
        temperature=wanted.temperature,
        with_token_probs=wanted.with_logprobs,
        diarize=wanted.diarize,
        must_diarize=wanted.diarize,
        known_speakers=tuple(
            _known_speaker(service, name, path, i, ticket.work)
            for i, (name, path) in enumerate(zip(wanted.names, references, strict=True))
        ),
    )
    transcript = service.transcriber.transcribe(audio, options, ticket.work, listener)
    jobs.note_transcript(service, record, transcript)
    return transcript


def _shape(wanted: OpenAIRequest) -> openai_formats.Shape:
    return openai_formats.Shape(
        output=wanted.output,
        task=wanted.task,
        with_words=wanted.with_words,
        with_segments=wanted.with_segments,
        with_logprobs=wanted.with_logprobs,
        names=wanted.names,
    )


def _known_speaker(
    service: Service, name: str, path: Path, number: int, work: Work
) -> KnownSpeaker:
    """`path`: the file that holds a data URL; it then holds what the URL does."""
    parameter = f"{REFERENCES}[{number}]"
    least, most = REFERENCE_S
    wanted = f"it must be a data URL with {least:g} to {most:g} seconds of one voice."
    try:
        content = _read_data_url(path.read_text())
        # "r+": a file that was removed meanwhile, with its request, is not made again
        with told_when_full(), path.open("r+b") as file:
            file.write(content)
            file.truncate()
        audio = jobs.decode(service, path, work, max_duration_s=most + SLACK_S)
    except (ValueError, UndecodableAudio, UploadTooLarge):
        raise UnsupportedOption(f"{parameter}: {wanted}") from None
    if audio.duration_s < least - SLACK_S:
        raise UnsupportedOption(f"{parameter}: {audio.duration_s:.1f} s are too short; {wanted}")
    return KnownSpeaker(name, audio)


def _read_data_url(url: str) -> bytes:
    """Source: RFC 2397. Raises ValueError."""
    if not url.startswith("data:"):  # and no other URL is ever opened
        raise ValueError
    try:
        with urlopen(url) as response:
            content: bytes = response.read()
    except URLError as error:
        raise ValueError from error
    return content
