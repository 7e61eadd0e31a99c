"""/v1/audio/* and /v1/models: OpenAI's API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request, Response

from app.api.head import answer_head
from app.api.intake import Intake, admitted, ignored_headers, resolve_model, warning_headers
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
from app.api.openai.references import known_speakers
from app.api.request_state import record_of
from app.api.sse import Event, Tell, Wire, respond
from app.domain.errors import ServiceError
from app.domain.options import Task, TranscribeOptions
from app.domain.transcript import Segment, Transcript
from app.formats import openai as formats
from app.observability.stages import Stage
from app.pipeline.flow import NOBODY, Listener
from app.service.service import Service

DIALECT = "openai"
OWNER = "whisperx-asr-service"


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
    loaded = any(k.kind == "recognizer" and k.name == canonical for k in service.models.loaded())
    return ModelBody(id=name, owned_by=OWNER, loaded=loaded)


async def _answer(service: Service, request: Request, task: Task) -> Response:
    record = record_of(request)
    record.dialect = DIALECT

    def parse(fields: Mapping[str, list[str]]) -> OpenAIRequest:
        wanted = parse_openai_request(fields, task)
        record.model = resolve_model(service, wanted.model)
        return replace(wanted, model=record.model)

    kind = "translation" if task is Task.TRANSLATE else "transcription"
    admitting = admitted(service, request, kind, OPENAI_FORM, parse)
    return await respond(admitting, _Transcribing)


class _Transcribing:
    """One request to /v1/audio. Its methods run in the request's thread."""

    def __init__(self, intake: Intake[OpenAIRequest]) -> None:
        self.intake = intake
        self._wanted = wanted = intake.wanted
        self._call = intake.call
        self._ignored = ignored_headers(wanted.ignored, intake.upload.dropped)
        self._references = intake.upload.large.get(REFERENCES, [])
        self._shape = formats.Shape(
            output=wanted.output,
            task=wanted.task,
            with_words=wanted.with_words,
            with_segments=wanted.with_segments,
            with_logprobs=wanted.with_logprobs,
            with_speakers=wanted.with_speakers,
            with_embeddings=wanted.speaker_embeddings,
            names=wanted.names,
        )
        check_references(wanted, len(self._references))

    @property
    def wire(self) -> Wire | None:
        if not self._wanted.stream:
            return None
        return Wire(lambda: Event("", {}), _error_event, self._ignored)

    @property
    def spacing(self) -> None:
        return None

    def answer(self) -> Response:
        transcript = self._transcribe()
        with self._call.record.stages.measure(Stage.FORMAT):
            style = self._wanted.subtitles.applied_to(self.intake.service.subtitle_style)
            body = formats.write(transcript, self._shape, style)
        headers = {**self._ignored, **warning_headers(transcript.warnings)}
        return Response(body, media_type=self._wanted.output.media_type, headers=headers)

    def stream(self, tell: Tell) -> None:
        """Sends the text of each recognized chunk at once, and the speakers when they are known."""
        deltas = formats.Deltas(self._wanted.with_logprobs)

        def tell_data(data: dict[str, Any]) -> None:
            tell(Event(data["type"], data))

        def recognized(segment: Segment) -> None:
            if delta := deltas.delta(segment):
                tell_data(delta)

        transcript = self._transcribe(Listener(recognized))
        if self._wanted.diarize:
            for segment in formats.diarized_segments(transcript, self._wanted.names):
                tell_data(segment)
        tell_data(formats.done(transcript, self._shape))

    def _transcribe(self, listener: Listener = NOBODY) -> Transcript:
        wanted, settings = self._wanted, self.intake.service.settings
        options = TranscribeOptions(
            model=wanted.model,
            language=wanted.language,
            languages=wanted.languages,
            usual_language=settings.default_language if wanted.usual_language else None,
            multilingual=wanted.multilingual,
            task=wanted.task,
            initial_prompt=wanted.prompt,
            hotwords=wanted.hotwords,
            temperature=wanted.temperature,
            beam_size=wanted.beam_size,
            speech=wanted.speech,
            with_token_probs=wanted.with_logprobs,
            diarize=wanted.diarize,
            must_diarize=wanted.must_diarize,
            speakers=wanted.speakers,
            known_speakers=known_speakers(self._call, wanted.names, self._references),
        )
        return self._call.transcribe(self.intake.recording(), options, listener)


def _error_event(error: ServiceError) -> Event:
    return Event("error", openai_error(error))
