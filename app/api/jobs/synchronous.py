"""POST /transcribe with `model_size`: the streaming service's answer to an upload, synchronously.

Its command: curl -F file=@audio.wav -F model_size=base -F language=en http://HOST/transcribe
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response

from app.api.intake import Intake, ignored_headers, resolve_model, warning_headers
from app.api.parameters import Reader
from app.api.request_state import record_of
from app.domain.languages import parse_language
from app.domain.options import Task, TranscribeOptions
from app.formats.streaming_service import to_json
from app.observability.stages import Stage
from app.service.service import Service

DIALECT = "streaming-service"
MODEL_SIZE = "model_size"
TASKS = {task.value: task for task in Task}


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
