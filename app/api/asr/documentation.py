"""What /docs says about /asr and /detect-language, except their parameters. Data only."""

from __future__ import annotations

from typing import Any

from app.api.asr.bodies import LanguageBody, TranscriptBody
from app.api.error_responses import ERROR_RESPONSES
from app.api.forms import ASR_FORM

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
operator chose otherwise). Parameters without effect, such as unknown ones, are named in the header
`X-ASR-Ignored`, and an empty value is the same as none.
"""  # noqa: E501 - each table row must be one line

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
ANSWER_HEADERS = {
    "Asr-Engine": {"description": "`whisperx`", "schema": {"type": "string"}},
    "Content-Disposition": {
        "description": "The name of the upload with the extension of the format.",
        "schema": {"type": "string"},
    },
    "X-ASR-Ignored": {
        "description": "Names of parameters that have no effect here; absent if all have.",
        "schema": {"type": "string"},
    },
    "X-ASR-Joined": {
        "description": "`true` if an equal upload of the same client was transcribed for it, too.",
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
        "headers": ANSWER_HEADERS,
        "content": {
            "text/plain": {
                "schema": {"type": "string"},
                "example": "1\n00:00:00,620 --> 00:00:01,040\n[SPEAKER_00]: Hello.\n\n",
            },
            "text/event-stream": {},
        },
    },
    **ERROR_RESPONSES,
}
DETECT_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"model": LanguageBody, "description": "The language of the first speech."},
    **ERROR_RESPONSES,
}
