"""POST /transcribe with `model_size`: the streaming service's answer to an upload, synchronously.

Its command: curl -F file=@audio.wav -F model_size=base -F language=en http://HOST/transcribe
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response

from app.api.error_responses import ERROR_RESPONSES
from app.api.forms import FormLayout
from app.api.intake import Intake, admitted, ignored_headers, resolve_model, warning_headers
from app.api.parameters import Reader, merge_parameters
from app.api.request_state import record_of
from app.domain.errors import UnsupportedOption
from app.domain.languages import parse_language
from app.domain.options import Task, TranscribeOptions
from app.formats.streaming_service import to_json
from app.observability.stages import Stage
from app.service.service import Service

DIALECT = "streaming-service"
MODEL_SIZE = "model_size"
TRANSCRIBE_FORM = FormLayout("file")
TASKS = {task.value: task for task in Task}

DESCRIPTION = """\
The synchronous call of the Whisper streaming service: the form fields `file`, `model_size`,
`language` (empty: it is detected) and `task` (`transcribe` or `translate`). The answer is the
transcript. `model_size` is one of `/v1/models`, such as `base`.
"""
FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", MODEL_SIZE],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        MODEL_SIZE: {"type": "string", "example": "base"},
                        "language": {"type": "string", "example": "en"},
                        "task": {"type": "string", "enum": list(TASKS)},
                    },
                }
            }
        },
    }
}
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The transcript.",
        "content": {
            "application/json": {
                "schema": {"type": "object"},
                "example": {
                    "text": "Hello.",
                    "language": "en",
                    "language_probability": 1.0,
                    "segments": [{"id": 0, "text": " Hello.", "start": 0.6, "end": 1.0}],
                    "processing_time": 0.4,
                    "total_processing_time": 0.5,
                },
            }
        },
    },
    **ERROR_RESPONSES,
}


@dataclass(frozen=True, slots=True)
class SynchronousRequest:
    """`model`: canonical. `language` None: it is detected."""

    model: str
    language: str | None
    task: Task
    usual_language: str | None  # the operator's, where the request names none
    ignored: tuple[str, ...]


def is_synchronous(given: Mapping[str, str]) -> bool:
    """Whether these parameters (query and form, merged) ask for the synchronous answer."""
    return MODEL_SIZE in given


def parse_synchronous(
    service: Service, request: Request, given: Mapping[str, str]
) -> SynchronousRequest:
    """Raises UnsupportedOption, UnknownModel."""
    record = record_of(request)
    record.dialect = DIALECT
    read = Reader(given)
    language = parse_language(read.text("language"))
    task = read.choice("task", TASKS, Task.TRANSCRIBE)
    record.model = resolve_model(service, read.text(MODEL_SIZE))
    usual = None if read.text("language") else service.settings.default_language
    return SynchronousRequest(record.model, language, task, usual, read.ignored())


async def answer_synchronously(intake: Intake[Any], wanted: SynchronousRequest) -> Response:
    """The transcript of the upload, in the streaming service's shape."""
    return await intake.run(lambda: _transcribe(intake, wanted))


def _transcribe(intake: Intake[Any], wanted: SynchronousRequest) -> Response:
    call, begun = intake.call, time.monotonic()
    options = TranscribeOptions(
        model=wanted.model,
        language=wanted.language,
        usual_language=wanted.usual_language,
        task=wanted.task,
    )
    transcript = call.transcribe(intake.recording(), options)
    probability = 1.0 if wanted.language else None
    with call.record.stages.measure(Stage.FORMAT):
        body = to_json(transcript, probability, time.monotonic() - begun)
        body["total_processing_time"] = round(call.elapsed_s, 3)
        text = json.dumps(body, ensure_ascii=False, allow_nan=False)
    headers = {
        **ignored_headers(wanted.ignored, intake.upload.dropped),
        **warning_headers(transcript.warnings),
    }
    return Response(text, media_type="application/json", headers=headers)


def build_router(service: Service) -> APIRouter:
    router = APIRouter(tags=["streaming service"])

    @router.post(
        "/transcribe",
        summary="Transcribe, as the streaming service does",
        description=DESCRIPTION,
        openapi_extra=FORM,
        responses=RESPONSES,
    )
    async def transcribe(request: Request) -> Response:
        def parse(fields: Mapping[str, list[str]]) -> SynchronousRequest | None:
            given = merge_parameters(fields, request.query_params)
            return parse_synchronous(service, request, given) if is_synchronous(given) else None

        async with admitted(service, request, "transcription", TRANSCRIBE_FORM, parse) as intake:
            if intake.wanted is None:
                raise UnsupportedOption(f"{MODEL_SIZE}: required, such as base.")
            return await answer_synchronously(intake, intake.wanted)

    return router
