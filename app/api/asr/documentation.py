"""What /docs says of /asr and /detect-language beside their parameters. Data, no code that runs."""

from __future__ import annotations

from typing import Any

from app.api.asr.bodies import ErrorBody, LanguageBody, ModelBody, OpenAIErrorBody, TranscriptBody
from app.api.errors import openai_body
from app.api.openai.parameters import (
    GRANULARITIES,
    INCLUDES,
    NAMES,
    OPENAI_FORM,
    OUTPUTS,
    REFERENCES,
    TRANSLATED,
)
from app.api.uploads import ASR_FORM
from app.storage.tempdir import DISK_FULL

ASR = """\
Only the file is required. Two dialects call themselves `/asr`; which one a request speaks is told
by the parameters that it gives:

| | webservice dialect | WhisperX dialect |
|---|---|---|
| recognised by | `output`, `encode` or `vad_filter` | `output_format` or `enable_diarization`, without those |
| format | `output`, default `txt` | `output_format`, default `json` |
| speakers | default `false` | default `true` |
| words | default `false` | default `true` |
| `text` in JSON | the whole transcript, a string | the list of segments |

A request that gives none of these speaks `DEFAULT_DIALECT` (the WhisperX dialect, unless the
operator chose otherwise). Unknown parameters are ignored, and an empty value is the same as none.
"""  # noqa: E501 - a row of a table is one line

DETECT = "Listens to the first speech in the file. Only the file is required."

FORM = {
    "requestBody": {
        "required": True,
        "description": (
            "Every query parameter may be sent as a form field of the same name instead; where "
            "both name one, the query wins."
        ),
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [ASR_FORM.file_field],
                    "properties": {
                        ASR_FORM.file_field: {
                            "type": "string",
                            "format": "binary",
                            "description": "Any audio or video file.",
                        }
                    },
                    "additionalProperties": {
                        "type": "string",
                        "description": "A query parameter as a form field, e.g. `language=en`.",
                    },
                }
            }
        },
    }
}

# status: what it means, and what its body may say
_ERRORS = {
    400: (
        "Nothing in the upload can be decoded, or there is no sound in it.",
        "The upload is not an audio or video file that can be decoded.",
    ),
    401: (
        "No API key, or one that is not known, where the operator asks for keys.",
        "An API key is needed: send it as Authorization: Bearer KEY or as X-API-Key: KEY.",
    ),
    408: ("The upload stalled or is too slow.", "The upload stopped for more than 60 seconds."),
    410: ("It was cancelled through `DELETE /queue`.", "The request was cancelled."),
    413: (
        "Over the size or duration limit.",
        "The upload is larger than the limit of 1000 MB.",
    ),
    422: (
        "A parameter has a value that is not allowed, or the file is missing.",
        "task: 'foo' is not allowed; it must be one of transcribe, translate.",
    ),
    429: (
        "Over the rate limit of the API key or the address.",
        "More than 60 requests in a minute; try again later.",
    ),
    500: (
        "The service failed for a reason of its own.",
        "The service failed on this request (its log says why under 5f0c2a71).",
    ),
    503: (
        "The queue is full, too many uploads are under way, a model cannot be loaded, or the "
        "service is shutting down.",
        "The queue is full; try again later.",
    ),
    504: ("Over the time limit.", "The request took longer than it may."),
    507: ("No disk space left.", DISK_FULL),
}
_RETRY_AFTER = {
    "Retry-After": {
        "description": "Seconds after which to try again.",
        "schema": {"type": "integer"},
    }
}
_RATE_LIMIT = {
    f"RateLimit-{name}": {"description": description, "schema": {"type": kind}}
    for name, description, kind in (
        ("Limit", "What is allowed, of the limit that is the nearest.", "integer"),
        ("Remaining", "What is left of it.", "integer"),
        ("Reset", "Seconds until more is.", "integer"),
        ("Policy", "All limits with their quotas and windows in seconds.", "string"),
    )
}
_ERROR_HEADERS = {
    401: {"WWW-Authenticate": {"description": "`Bearer`", "schema": {"type": "string"}}},
    429: {**_RETRY_AFTER, **_RATE_LIMIT},
    503: _RETRY_AFTER,
    507: _RETRY_AFTER,
}
_ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {
        "model": ErrorBody,
        "description": meaning,
        "content": {"application/json": {"example": {"detail": detail}}},
        **({"headers": _ERROR_HEADERS[status]} if status in _ERROR_HEADERS else {}),
    }
    for status, (meaning, detail) in _ERRORS.items()
}

UNAUTHORIZED: dict[int | str, dict[str, Any]] = {401: _ERROR_RESPONSES[401]}

_ANSWER_HEADERS = {
    "Asr-Engine": {"description": "`whisperx`", "schema": {"type": "string"}},
    "Content-Disposition": {
        "description": "The name of the upload with the extension of the format.",
        "schema": {"type": "string"},
    },
    "X-ASR-Warning": {
        "description": "What the transcript lacks, and why; absent where it lacks nothing.",
        "schema": {"type": "string"},
    },
}
ASR_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "model": TranscriptBody,
        "description": "The transcript in the format asked for, as a file.",
        "headers": _ANSWER_HEADERS,
        "content": {
            "text/plain": {
                "schema": {"type": "string"},
                "example": "1\n00:00:00,620 --> 00:00:01,040\n[SPEAKER_00]: Hello.\n\n",
            },
            "text/event-stream": {},
        },
    },
    **_ERROR_RESPONSES,
}
DETECT_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"model": LanguageBody, "description": "The language of the first speech."},
    **_ERROR_RESPONSES,
}


# -- OpenAI's API --------------------------------------------------------------------------------

OPENAI = """\
OpenAI's own endpoint, served from here: point a client's base URL at `/v1`. `verbose_json` has the
decoder's own figures; `diarized_json` tells speakers apart, by name where references are given.
With `stream=true` the text comes as server-sent events while the rest is still worked on:
`transcript.text.delta`, then `transcript.text.segment` (diarized), then `transcript.text.done`.
"""

OPENAI_TRANSLATION = "As `/v1/audio/transcriptions`, in English whatever is spoken."


def _text(description: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "description": description, **more}


def _texts(description: str, **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": {"type": "string", **more}, "description": description}


def _form(properties: dict[str, Any]) -> dict[str, Any]:
    schema = {
        "type": "object",
        "required": [OPENAI_FORM.file_field],
        "properties": properties,
        "additionalProperties": {"type": "string"},
    }
    return {
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}
    }


_TRANSLATION_FIELDS = {
    OPENAI_FORM.file_field: _text("Any audio or video file.", format="binary"),
    "model": _text("One of `/v1/models`; default: the service's own."),
    "prompt": _text("Text that might have gone before, for style and spelling."),
    "hotwords": _text("Words and names to listen for (not in OpenAI's API)."),
    "response_format": _text("Format of the answer; default `json`.", enum=list(TRANSLATED)),
    "temperature": {
        "type": "number",
        "minimum": 0,
        "maximum": 1,
        "description": "0 (default): rise where decoding fails.",
    },
    "stream": {"type": "boolean", "description": "Answer with server-sent events."},
}
OPENAI_TRANSLATION_FORM = _form(_TRANSLATION_FIELDS)
OPENAI_TRANSCRIPTION_FORM = _form(
    {
        **_TRANSLATION_FIELDS,
        "response_format": _text("Format of the answer; default `json`.", enum=list(OUTPUTS)),
        "language": _text("Code or English name of the language spoken; default: detected."),
        "languages[]": _texts("Languages that it may be, where it is detected."),
        "keywords[]": _texts("Words and names to listen for."),
        "timestamp_granularities[]": _texts(
            "What `verbose_json` has; default `segment`.", enum=list(GRANULARITIES)
        ),
        "include[]": _texts(
            "`logprobs`: how likely each token is; with `json` only.", enum=list(INCLUDES)
        ),
        f"{NAMES}[]": _texts("Names of speakers whose voices follow."),
        f"{REFERENCES}[]": _texts(
            "For each name a data URL with 2 to 10 seconds of that speaker alone."
        ),
        "chunking_strategy": _text(
            "`auto` or a `server_vad` object; accepted, speech detection is always on."
        ),
    }
)

_OPENAI_MEANINGS = {
    400: "A parameter has a value that is not allowed, or nothing in the upload can be decoded.",
    404: "There is no such model.",
}
_OPENAI_CODES = {
    400: "unsupported_option",
    401: "invalid_api_key",
    404: "model_not_found",
    408: "upload_stalled",
    410: "cancelled",
    413: "upload_too_large",
    429: "rate_limit_exceeded",
    500: "stage_failed",
    503: "overloaded",
    504: "deadline_exceeded",
    507: "disk_full",
}


def _openai_error(status: int) -> dict[str, Any]:
    meaning, detail = _ERRORS.get(status, _ERRORS[422])
    example = openai_body(status, detail, "task" if status == 400 else None, _OPENAI_CODES[status])
    return {
        "model": OpenAIErrorBody,
        "description": _OPENAI_MEANINGS.get(status, meaning),
        "content": {"application/json": {"example": example}},
        **({"headers": _ERROR_HEADERS[status]} if status in _ERROR_HEADERS else {}),
    }


OPENAI_UNAUTHORIZED: dict[int | str, dict[str, Any]] = {401: _openai_error(401)}
OPENAI_MODEL_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"model": ModelBody},
    **{status: _openai_error(status) for status in (401, 404)},
}
OPENAI_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The transcript in the format asked for.",
        "headers": {"X-ASR-Warning": _ANSWER_HEADERS["X-ASR-Warning"]},
        "content": {
            "application/json": {
                "schema": {"type": "object"},
                "example": {"text": "Hello.", "usage": {"type": "duration", "seconds": 3}},
            },
            "text/plain": {"schema": {"type": "string"}},
            "text/event-stream": {},
        },
    },
    **{status: _openai_error(status) for status in _OPENAI_CODES},
}
