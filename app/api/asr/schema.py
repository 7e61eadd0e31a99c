"""The query parameters of /asr and /detect-language, as people and generated clients see them.

Parameters arrive as text and are parsed in `parameters.py`, so both dialects, query and form share
one reader and one kind of error. Defaults and examples are in the descriptions only: Swagger UI
would send those of the schema unasked and so change the dialect.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import BaseModel, WithJsonSchema

from app.api.asr.decoding import BOOLEAN, DecodingParameters, Text, about
from app.api.asr.parameters import OUTPUTS, TASKS
from app.api.decoding_parameters import SPEAKERS
from app.api.parameters import MAX_SPEAKERS
from app.api.subtitles import MAX_COUNT, MAX_WIDTH
from app.formats.subtitles import STYLES

COUNT = WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MAX_SPEAKERS})
OUTPUT = WithJsonSchema({"type": "string", "enum": list(OUTPUTS)})
SPEAKER_SOURCE = WithJsonSchema({"type": "string", "enum": list(SPEAKERS)})
SUBTITLE_STYLE = WithJsonSchema({"type": "string", "enum": list(STYLES)})
WIDTH = WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MAX_WIDTH})
LINES = WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MAX_COUNT})
MaxLineCount: TypeAlias = Annotated[
    Text, LINES, about("Most lines in a subtitle.", "that of the style", "2")
]
HighlightWords: TypeAlias = Annotated[
    Text, BOOLEAN, about("Underline each word as it is spoken.", "the service's own", "true")
]
TASK = WithJsonSchema({"type": "string", "enum": list(TASKS)})
FREE = WithJsonSchema({"type": "string"})


ABOUT_MODEL = about("Model to use, one of `/v1/models`.", "the service's own", "large-v3")
ABOUT_ENCODE = about(
    "`false`: the upload is raw 16 kHz mono signed 16-bit little-endian PCM without a header. "
    "On `/asr`, giving it chooses the webservice dialect.",
    "`true`",
    "false",
)
ABOUT_AUDIO_TRACK = about(
    "Which audio track of the file: its index, from 0, or its language.",
    "the default track, or the first one with sound",
    "fre",
)


class DetectParameters(BaseModel):
    """The query parameters of POST /detect-language."""

    model: Annotated[Text, FREE, ABOUT_MODEL] = None
    audio_track: Annotated[Text, FREE, ABOUT_AUDIO_TRACK] = None
    encode: Annotated[Text, BOOLEAN, ABOUT_ENCODE] = None


class AnswerParameters(BaseModel):
    """What is transcribed, and what the answer has."""

    output: Annotated[
        Text,
        OUTPUT,
        about(
            "Format of the answer in the webservice dialect; giving it chooses that dialect. "
            "`text` is the same as `txt`, `markdown` as `md`.",
            "`txt`",
            "srt",
        ),
    ] = None
    output_format: Annotated[
        Text,
        OUTPUT,
        about(
            "Format of the answer in the WhisperX dialect; giving it chooses that dialect, unless "
            "something else chooses the other. `txt` is the same as `text`.",
            "`json`",
            "srt",
        ),
    ] = None
    language: Annotated[
        Text,
        FREE,
        about(
            "Language spoken: a code or tag (`en`, `eng`, `en-US`) or its English name; `auto`: "
            "detect it; `multi`: each part of the recording in its own.",
            "the service's own, or `auto`",
            "en",
        ),
    ] = None
    multilingual: Annotated[
        Text,
        BOOLEAN,
        about(
            "The same as `language=multi`: segments carry the `language` of their part.",
            "`false`",
            "true",
        ),
    ] = None
    task: Annotated[
        Text,
        TASK,
        about(
            "`translate`: into English; the times of its words are approximate.",
            "`transcribe`",
            "translate",
        ),
    ] = None
    model: Annotated[Text, FREE, ABOUT_MODEL] = None
    initial_prompt: Annotated[
        Text,
        FREE,
        about(
            "Text that might have gone before, for style and spelling.",
            "none",
            "Minutes of the budget meeting.",
        ),
    ] = None
    hotwords: Annotated[
        Text, FREE, about("Words and names to listen for.", "none", "Speakr, Bazarr")
    ] = None
    word_timestamps: Annotated[
        Text,
        BOOLEAN,
        about(
            "Whether JSON has the words with their times.",
            "`true`; `false` in the webservice dialect",
            "true",
        ),
    ] = None
    diarize: Annotated[
        Text,
        BOOLEAN,
        about(
            "Whether to tell speakers apart, in both dialects.",
            "`true`; `false` in the webservice dialect",
            "true",
        ),
    ] = None
    enable_diarization: Annotated[
        Text,
        BOOLEAN,
        about(
            "The same in the WhisperX dialect; giving it chooses that dialect, unless something "
            "else chooses the other.",
            "as `diarize`",
            "false",
        ),
    ] = None
    speakers: Annotated[
        Text,
        SPEAKER_SOURCE,
        about(
            "How speakers are told apart: by their `voices`, where diarization is on; or by "
            "`channels`, for calls with one party on each: SPEAKER_00 is the first channel.",
            "`voices`",
            "channels",
        ),
    ] = None
    num_speakers: Annotated[
        Text,
        COUNT,
        about("Exact number of speakers; the next two are ignored then.", "found out", "2"),
    ] = None
    min_speakers: Annotated[Text, COUNT, about("Speakers at least.", "1", "2")] = None
    max_speakers: Annotated[Text, COUNT, about("Speakers at most.", "no limit", "4")] = None
    return_speaker_embeddings: Annotated[
        Text,
        BOOLEAN,
        about("Whether JSON has a voice vector of each speaker.", "`false`", "true"),
    ] = None
    subtitle_style: Annotated[
        Text,
        SUBTITLE_STYLE,
        about(
            "SRT and VTT: `readable` has two lines of 42 characters at most, broken at phrases, 17 "
            "characters in a second; `plain` has a subtitle for each segment. Both may have the "
            "next three.",
            "the service's own",
            "readable",
        ),
    ] = None
    max_line_width: Annotated[
        Text,
        WIDTH,
        about(
            "Most characters in a subtitle line; Chinese, Japanese and Korean ones count twice.",
            "that of the style",
            "42",
        ),
    ] = None
    max_line_count: MaxLineCount = None
    highlight_words: HighlightWords = None
    stream: Annotated[
        Text,
        BOOLEAN,
        about(
            "WhisperX dialect, JSON only: answer with server-sent events while it is worked on: "
            "`progress`, `text` of each chunk, `segment` once it is final, `result` (the whole "
            "answer), or `error`.",
            "`false`",
            "true",
        ),
    ] = None
    audio_track: Annotated[Text, FREE, ABOUT_AUDIO_TRACK] = None
    encode: Annotated[Text, BOOLEAN, ABOUT_ENCODE] = None
    vad_filter: Annotated[
        Text,
        BOOLEAN,
        about(
            "`false`: what lies between the speech is recognized, too. Giving it chooses the "
            "webservice dialect.",
            "`true`",
            "true",
        ),
    ] = None


class AsrParameters(DecodingParameters, AnswerParameters):
    """The query parameters of POST /asr; in the schema, those of the last base come first."""
