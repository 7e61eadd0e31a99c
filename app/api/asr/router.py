"""POST /asr and /detect-language: the contract of whisper-asr-webservice and its successors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response

from app.api.asr import documentation
from app.api.asr.parameters import (
    AsrRequest,
    DetectRequest,
    Dialect,
    parse_asr_request,
    parse_detect_request,
)
from app.api.asr.schema import AsrParameters, DetectParameters
from app.api.forms import ASR_FORM
from app.api.intake import Intake, admitted, ignored_headers, resolve_model, warning_headers
from app.api.parameters import merge_parameters
from app.api.request_state import record_of
from app.api.sse import Event, Tell, Wire, respond
from app.api.statuses import status_of
from app.domain.errors import ServiceError
from app.domain.languages import language_name
from app.domain.options import TranscribeOptions
from app.domain.transcript import Segment, Transcript
from app.formats import asr as formats
from app.observability.stages import Stage
from app.pipeline.flow import NOBODY, Listener
from app.service.service import Service

ENGINE = {"Asr-Engine": "whisperx"}


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
            record.model = resolve_model(service, wanted.model)
            return replace(wanted, model=record.model)

        admitting = admitted(service, request, "transcription", ASR_FORM, parse)
        return await respond(admitting, _Transcribing)

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
            record.model = resolve_model(service, wanted.model)
            return replace(wanted, model=record.model)

        async with admitted(service, request, "detection", ASR_FORM, parse) as intake:
            wanted = intake.wanted
            recording = intake.recording(not wanted.encode, wanted.audio_track)
            guess = await intake.run(lambda: intake.call.detect_language(recording, wanted.model))
        body = {
            "detected_language": language_name(guess.language),
            "language_code": guess.language,
            "confidence": round(guess.probability, 4),
        }
        headers = ignored_headers(wanted.ignored, intake.upload.dropped)
        return Response(json.dumps(body), media_type="application/json", headers=headers)

    return router


class _Transcribing:
    """One request to /asr. Everything except `progress` runs in the request's thread."""

    def __init__(self, intake: Intake[AsrRequest]) -> None:
        self.intake = intake
        self._wanted = intake.wanted
        self._call = intake.call
        self._headers = {**ENGINE, **ignored_headers(self._wanted.ignored, intake.upload.dropped)}
        usual = intake.service.settings.default_language
        self._usual_language = usual if self._wanted.usual_language else None

    @property
    def wire(self) -> Wire | None:
        return Wire(self.progress, _error_event, self._headers) if self._wanted.stream else None

    def answer(self) -> Response:
        wanted, transcript = self._wanted, self._transcribe()
        headers = {
            **self._headers,
            "Content-Disposition": content_disposition(
                self.intake.upload.file_name, wanted.output.extension
            ),
            **warning_headers(transcript.warnings),
        }
        body = self._written(transcript)
        return Response(body, media_type=wanted.output.media_type, headers=headers)

    def stream(self, tell: Tell) -> None:
        """Sends the text of each chunk, each final segment, and the whole answer last."""

        def recognized(segment: Segment) -> None:
            tell(Event("text", formats.segment_json(segment, with_words=False)))
            tell(self.progress())

        def settled(segment: Segment) -> None:
            tell(Event("segment", formats.segment_json(segment, self._wanted.word_timestamps)))

        body = self._written(self._transcribe(Listener(recognized, settled)))
        self._call.work.progress = 1.0
        tell(self.progress())
        tell(Event("result", body))

    def progress(self) -> Event:
        progress, elapsed_s = self._call.work.progress, self._call.elapsed_s
        return Event(
            "progress", {"progress": round(progress, 3), "elapsed_seconds": round(elapsed_s, 1)}
        )

    def _transcribe(self, listener: Listener = NOBODY) -> Transcript:
        wanted = self._wanted
        options = TranscribeOptions(
            model=wanted.model,
            language=wanted.language,
            usual_language=self._usual_language,
            multilingual=wanted.multilingual,
            task=wanted.task,
            initial_prompt=wanted.initial_prompt,
            hotwords=wanted.hotwords,
            temperature=wanted.temperature,
            beam_size=wanted.beam_size,
            speech=wanted.speech,
            diarize=wanted.diarize,
            speakers=wanted.speakers,
        )
        recording = self.intake.recording(not wanted.encode, wanted.audio_track)
        return self._call.transcribe(recording, options, listener, wanted.by_channel)

    def _written(self, transcript: Transcript) -> bytes:
        wanted = self._wanted
        shape = formats.JsonShape(
            webservice=wanted.dialect is Dialect.WEBSERVICE,
            with_words=wanted.word_timestamps,
            with_embeddings=wanted.speaker_embeddings,
        )
        style = wanted.subtitles.applied_to(self.intake.service.subtitle_style)
        with self._call.record.stages.measure(Stage.FORMAT):
            return formats.write(transcript, wanted.output, shape, style).encode()


def _error_event(error: ServiceError) -> Event:
    return Event("error", {"detail": error.message, "status": status_of(error)})


def content_disposition(file_name: str, extension: str) -> str:
    """A header that no file name can break. Source: RFC 6266, RFC 5987."""
    base = file_name.replace("\\", "/").rsplit("/", 1)[-1]
    shown = "".join(c for c in base if c.isprintable()).strip(" .")[-150:]
    name = f"{shown or 'audio'}.{extension}"
    plain = "".join(c if c.isascii() and c not in '"%;' else "_" for c in name)
    if plain == name:
        return f'attachment; filename="{plain}"'
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
