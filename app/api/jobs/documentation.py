"""What /docs says about jobs. Data only."""

from __future__ import annotations

from typing import Any

from app.api.asr.documentation import ANSWER_HEADERS
from app.api.asr.parameters import OUTPUTS, TASKS
from app.api.decoding_parameters import MAX_BEAM_SIZE, MAX_TEMPERATURE, SPEAKERS
from app.api.error_responses import ERROR_HEADERS, ERROR_RESPONSES, UNAUTHORIZED, ErrorBody
from app.api.jobs.bodies import ResultBody, TaskBody, UnfinishedBody
from app.api.jobs.parameters import (
    DEFAULT_LIMIT,
    JOB_FORM,
    MAX_LIMIT,
    MAX_METADATA_BYTES,
    MAX_OFFSET,
    PRIORITIES,
    STATES,
)
from app.api.parameters import MAX_SPEAKERS

Responses = dict[int | str, dict[str, Any]]

SUBMIT = """\
Answers as soon as the recording is received. Ask `/status/{task_id}` how far it is, follow
`/events/{task_id}`, or have a webhook called (`callback_url`); then fetch `/result/{task_id}`, in
any format. All addresses of jobs are served under `/api/v1` as well.

Every field may also be sent as a query parameter. A request that is repeated with the same
`Idempotency-Key` header gets the same job.

With `model_size` it is the Whisper streaming service's synchronous call instead: the fields `file`,
`model_size`, `language` and `task`, answered with the transcript.
"""
RESULT = """\
JSON unless the job, or `format` here, says otherwise; speakers are `spk_1`, `spk_2`, ... in order
of their first speech. 409 while the job has not ended.
"""
CANCEL = """\
A job that waits is cancelled at once (`cancelled`), one that is processed as soon as it notices
(`cancelling`).
"""
MEDIA = """\
Only of a job that was sent with `keep_audio=true` and is done, as long as its transcript is kept.
Takes range requests, and may answer with a part of what is asked for. What browsers cannot play is
answered as MP3.
"""
EVENTS = """\
`status` whenever the status, the step or the progress changes, then `done`, `failed` or `cancelled`
as the last one. Each carries the same as `/status/{task_id}`. A browser that connects again after
the end is answered with 204, so that it stops.
"""


def _text(description: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "description": description, **more}


def _number(kind: str, least: float, most: float, description: str) -> dict[str, Any]:
    return {"type": kind, "minimum": least, "maximum": most, "description": description}


def _count(description: str) -> dict[str, Any]:
    return _number("integer", 1, MAX_SPEAKERS, description)


FIELDS = {
    JOB_FORM.file_field: _text("Any audio or video file. Also as `audio_file`.", format="binary"),
    "url": _text(
        "Instead of a file: a URL (if `URL_INGEST` is on), or `s3://BUCKET/KEY` of a bucket of "
        "`S3_ALLOWED_BUCKETS`."
    ),
    "lang": _text(
        "Language spoken: a code, a tag or its English name; `auto`: detect it; `multi`: each part "
        "in its own. Also as `language`."
    ),
    "model": _text("One of `/v1/models`; default: the service's own."),
    "format": _text("Format of the result; default `json`.", enum=list(OUTPUTS)),
    "diarization": {
        "type": "boolean",
        "description": "Tell speakers apart; default `true`. Also as `diarize`.",
    },
    "num_speakers": _count("Exact number of speakers."),
    "min_speakers": _count("Speakers at least."),
    "max_speakers": _count("Speakers at most."),
    "speakers": _text("`channels`: each channel is a speaker.", enum=list(SPEAKERS)),
    "callback_url": _text("Where a webhook goes at the end."),
    "metadata": _text(
        f"A JSON object of at most {MAX_METADATA_BYTES >> 10} kB, which is given back."
    ),
    "priority": _text("Whose turn comes first; default `normal`.", enum=list(PRIORITIES)),
    "task": _text("`translate`: into English.", enum=list(TASKS)),
    "prompt": _text("Text that might have gone before, for style and spelling."),
    "hotwords": _text("Words and names to listen for."),
    "temperature": _number("number", 0, MAX_TEMPERATURE, "0 (default): rise where decoding fails."),
    "beam_size": _number("integer", 1, MAX_BEAM_SIZE, "Width of the beam search."),
    "model_size": _text("As the streaming service has it: answer with the transcript itself."),
    "keep_audio": {
        "type": "boolean",
        "description": "Keep the recording with the transcript, for `/media/{task_id}`; default "
        "`false`. Of uploads of at most `JOB_KEEP_AUDIO_MB`.",
    },
    "audio_track": _text("Which audio track of the file: its index, from 0, or its language."),
}
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    "description": "Repeated requests with the same key make one job.",
}
SUBMIT_FORM = {
    "parameters": [_IDEMPOTENCY_KEY],
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": FIELDS,
                    "additionalProperties": {"type": "string"},
                }
            }
        },
    },
}


def _query(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    described = {key: value for key, value in schema.items() if key != "description"}
    return {
        "name": name,
        "in": "query",
        "required": False,
        "schema": described,
        "description": schema["description"],
    }


RESULT_QUERY = {
    "parameters": [_query("format", _text("Format of the answer.", enum=list(OUTPUTS)))]
}
HISTORY_QUERY = {
    "parameters": [
        _query(name, schema)
        for name, schema in {
            "limit": _number("integer", 1, MAX_LIMIT, f"Jobs on a page. Default: {DEFAULT_LIMIT}."),
            "offset": _number("integer", 0, MAX_OFFSET, "Jobs to skip, instead of a cursor."),
            "cursor": _text("`next_cursor` of the page before: none is missed or comes twice."),
            "status": _text(f"One or more, with commas between them, of {', '.join(STATES)}."),
            "since": _text("Handed in at this time or later: ISO 8601, or seconds since 1970."),
            "until": _text("Handed in before this time."),
            "search": _text(
                "A part of the file name or of the metadata, or beginnings of words that are all "
                "in the transcript; in any case."
            ),
        }.items()
    ]
}


def _error(description: str, detail: str, model: Any = ErrorBody) -> dict[str, Any]:
    found = {"model": model, "description": description}
    if model is ErrorBody:
        found["content"] = {"application/json": {"example": {"detail": detail}}}
    return found


_RETRY_AFTER = {"headers": ERROR_HEADERS[503]}
_UNKNOWN = _error("The client has no such job.", "There is no job with this ID.")
_BUSY = ERROR_RESPONSES[503]
JOB_RESPONSES: Responses = {**UNAUTHORIZED, 404: _UNKNOWN, 503: _BUSY}
SUBMIT_RESPONSES: Responses = {
    200: {
        "description": "The transcript, if `model_size` asks for it.",
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
    202: {
        "description": "The job is accepted.",
        "headers": {
            "Location": {
                "description": "The address of its status.",
                "schema": {"type": "string"},
            },
            "X-ASR-Ignored": ANSWER_HEADERS["X-ASR-Ignored"],
        },
    },
    **{status: found for status, found in ERROR_RESPONSES.items() if status != 500},
    409: _error(
        "Another request with this Idempotency-Key is being accepted.",
        "Another request with this Idempotency-Key is being accepted.",
    ),
}
RESULT_RESPONSES: Responses = {
    200: {
        "model": ResultBody,
        "description": "The transcript in the format asked for.",
        "headers": {name: ANSWER_HEADERS[name] for name in ("X-ASR-Warning",)},
        "content": {"text/plain": {"schema": {"type": "string"}}},
    },
    **JOB_RESPONSES,
    409: {**_error("It has not ended yet.", "", UnfinishedBody), **_RETRY_AFTER},
    410: _error("It was cancelled.", "", UnfinishedBody),
    422: _error(
        "It failed because of the recording or what was asked, or a parameter is not allowed.",
        "",
        UnfinishedBody,
    ),
    500: _error("It failed for another reason.", "", UnfinishedBody),
}
CANCEL_RESPONSES: Responses = {
    **JOB_RESPONSES,
    409: _error("It has ended already.", "", UnfinishedBody),
}
DELETE_RESPONSES: Responses = {
    **JOB_RESPONSES,
    409: _error("It has not ended yet.", "The job has not ended yet: cancel it first."),
}
RETRY_RESPONSES: Responses = {
    **JOB_RESPONSES,
    409: _error("It has not failed.", "", UnfinishedBody),
}
HISTORY_RESPONSES: Responses = {**UNAUTHORIZED, 422: ERROR_RESPONSES[422], 503: _BUSY}
MEDIA_RESPONSES: Responses = {
    200: {"description": "The recording.", "content": {"audio/*": {}}},
    206: {"description": "A part of it.", "content": {"audio/*": {}}},
    304: {"description": "It is the one with this ETag."},
    416: {"description": "It is shorter."},
    **JOB_RESPONSES,
}
EVENTS_RESPONSES: Responses = {
    200: {"model": TaskBody, "description": "Events.", "content": {"text/event-stream": {}}},
    204: {"description": "The job has ended, and this client has been told."},
    **JOB_RESPONSES,
}
