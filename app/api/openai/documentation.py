"""What /docs says about /v1. Data only."""

from __future__ import annotations

from typing import Any

from app.api.asr.documentation import ANSWER_HEADERS
from app.api.decoding_parameters import MAX_BEAM_SIZE, MAX_TEMPERATURE, SCORE_LIMITS
from app.api.error_responses import ERROR_HEADERS, ERRORS
from app.api.json_body import AUDIO_OBJECT
from app.api.openai.bodies import ModelBody, OpenAIErrorBody
from app.api.openai.errors import openai_body
from app.api.openai.parameters import (
    GRANULARITIES,
    INCLUDES,
    NAMES,
    OPENAI_FORM,
    OUTPUTS,
    REFERENCES,
    TRANSLATED,
)
from app.api.parameters import MAX_SPEAKERS
from app.api.subtitles import MAX_COUNT, MAX_WIDTH
from app.formats.subtitles import STYLES

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
    as_json = {
        "type": "object",
        "required": [AUDIO_OBJECT],
        "properties": {
            "model": properties["model"],
            "response_format": properties["response_format"],
            AUDIO_OBJECT: _INPUT_AUDIO,
        },
        "additionalProperties": True,
        "description": "The other fields are those of the form, except for known speakers.",
    }
    return {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": schema},
                "application/json": {"schema": as_json},
            },
        }
    }


_INPUT_AUDIO = {
    "type": "object",
    "required": ["data"],
    "properties": {
        "data": _text("The file in base64."),
        "format": _text("Its file extension, for example `mp3`; it is recognized anyway."),
    },
    "description": "The recording, as routers send it.",
}


def _boolean(description: str) -> dict[str, Any]:
    return {"type": "boolean", "description": description}


def _number(kind: str, least: float, most: float, description: str) -> dict[str, Any]:
    return {"type": kind, "minimum": least, "maximum": most, "description": description}


def _count(description: str) -> dict[str, Any]:
    return _number("integer", 1, MAX_SPEAKERS, description)


_MORE_FIELDS = {  # not in OpenAI's API
    "diarize": _boolean("Tell speakers apart, in every format."),
    "num_speakers": _count("Exact number of speakers, who are then told apart."),
    "min_speakers": _count("Speakers at least."),
    "max_speakers": _count("Speakers at most."),
    "return_speaker_embeddings": _boolean("A voice vector of each speaker, in JSON formats."),
    "subtitle_style": _text("`srt` and `vtt`: how they look.", enum=list(STYLES)),
    "max_line_width": _number("integer", 1, MAX_WIDTH, "Most characters in a subtitle line."),
    "max_line_count": _number("integer", 1, MAX_COUNT, "Most lines in a subtitle."),
    "highlight_words": _boolean("Underline each word as it is spoken."),
    "beam_size": _number("integer", 1, MAX_BEAM_SIZE, "Width of the beam search."),
    "vad_onset": _number("number", *SCORE_LIMITS, "Score above which speech begins."),
    "vad_offset": _number("number", *SCORE_LIMITS, "Score below which speech ends."),
    "vad_filter": _boolean("`false`: what lies between the speech is recognized, too."),
    "condition_on_previous_text": _boolean("Only `false`: chunks are decoded side by side."),
}


_TRANSLATION_FIELDS = {
    OPENAI_FORM.file_field: _text("Any audio or video file.", format="binary"),
    "model": _text("One of `/v1/models`; default: the service's own."),
    "prompt": _text("Text that might have gone before, for style and spelling."),
    "hotwords": _text("Words and names to listen for (not in OpenAI's API)."),
    "response_format": _text("Format of the answer; default `json`.", enum=list(TRANSLATED)),
    "temperature": _number("number", 0, MAX_TEMPERATURE, "0 (default): rise where decoding fails."),
    "stream": _boolean("Answer with server-sent events."),
    **_MORE_FIELDS,
}
OPENAI_TRANSLATION_FORM = _form(_TRANSLATION_FIELDS)
OPENAI_TRANSCRIPTION_FORM = _form(
    {
        **_TRANSLATION_FIELDS,
        "response_format": _text("Format of the answer; default `json`.", enum=list(OUTPUTS)),
        "language": _text("Code, tag or English name of the language spoken; default: detected."),
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
    415: "unsupported_encoding",
    429: "rate_limit_exceeded",
    500: "stage_failed",
    503: "overloaded",
    504: "deadline_exceeded",
    507: "disk_full",
}


def _openai_error(status: int) -> dict[str, Any]:
    meaning, detail = ERRORS.get(status, ERRORS[422])
    example = openai_body(status, detail, "task" if status == 400 else None, _OPENAI_CODES[status])
    return {
        "model": OpenAIErrorBody,
        "description": _OPENAI_MEANINGS.get(status, meaning),
        "content": {"application/json": {"example": example}},
        **({"headers": ERROR_HEADERS[status]} if status in ERROR_HEADERS else {}),
    }


OPENAI_UNAUTHORIZED: dict[int | str, dict[str, Any]] = {401: _openai_error(401)}
OPENAI_MODEL_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"model": ModelBody},
    **{status: _openai_error(status) for status in (401, 404)},
}
OPENAI_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The transcript in the format asked for.",
        "headers": {
            name: ANSWER_HEADERS[name]
            for name in ("X-ASR-Ignored", "X-ASR-Joined", "X-ASR-Warning")
        },
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
