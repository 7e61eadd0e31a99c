"""The parameters of /asr and /detect-language: parsing, and descriptions for /docs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, WithJsonSchema

from app.api.asr.decoding import BOOLEAN, DecodingParameters, Text, about
from app.api.decoding_parameters import (
    SPEAKERS,
    read_audio_track,
    read_beam_size,
    read_by_channel,
    read_speaker_bounds,
    read_speech_detection,
    read_temperature,
    refuse_conditioning,
    wants_usual_language,
)
from app.api.parameters import MAX_SPEAKERS, Reader
from app.api.subtitles import MAX_COUNT, MAX_WIDTH, NO_WISHES, SubtitleWishes, read_subtitle_wishes
from app.domain.errors import UnsupportedOption
from app.domain.languages import is_multilingual, parse_language
from app.domain.options import SpeakerBounds, SpeechDetection, Task
from app.formats.subtitles import STYLES
from app.formats.table import ASR_FORMATS, JSON, TEXT, OutputFormat

OUTPUTS = {name: output for output in ASR_FORMATS for name in (*output.aliases, output.name)}
TASKS = {task.value: task.value for task in Task}


class Dialect(StrEnum):
    """Two public APIs use the path /asr."""

    WEBSERVICE = "webservice"
    WHISPERX = "whisperx"


@dataclass(frozen=True, slots=True)
class DetectRequest:
    """A parsed request to /detect-language. `model`: as the client wrote it; empty: the default."""

    model: str
    encode: bool
    audio_track: str = ""  # an index or a language; empty: the best track
    ignored: tuple[str, ...] = ()  # parameters without effect


@dataclass(frozen=True, slots=True)
class AsrRequest:
    """A parsed request to /asr. `language` None: detect it."""

    dialect: Dialect
    output: OutputFormat
    task: Task
    language: str | None
    multilingual: bool
    initial_prompt: str
    hotwords: str
    model: str  # as the client wrote it; empty: the default
    encode: bool
    word_timestamps: bool
    diarize: bool
    speakers: SpeakerBounds
    speaker_embeddings: bool
    stream: bool
    usual_language: bool  # the operator's applies
    temperature: float
    beam_size: int | None
    speech: SpeechDetection
    audio_track: str = ""  # an index or a language; empty: the best track
    by_channel: bool = False  # each channel is a speaker
    subtitles: SubtitleWishes = NO_WISHES
    ignored: tuple[str, ...] = ()  # parameters without effect


def recognize_dialect(parameters: Mapping[str, str], default: Dialect) -> Dialect:
    """The dialect whose own parameters are present; webservice if both have some."""
    if parameters.keys() & {"output", "encode", "vad_filter"}:
        return Dialect.WEBSERVICE
    if parameters.keys() & {"output_format", "enable_diarization"}:
        return Dialect.WHISPERX
    return default


def parse_asr_request(parameters: Mapping[str, str], default_dialect: Dialect) -> AsrRequest:
    """The request that `parameters` (query and form, merged) describe. Only notes unknown ones.

    Raises:
        UnsupportedOption: a value that is not allowed; the message names the parameter.
    """
    dialect = recognize_dialect(parameters, default_dialect)
    webservice = dialect is Dialect.WEBSERVICE
    read = Reader(parameters)
    # if both spellings are given, the dialect's own wins
    output, other_output = _ordered("output", "output_format", webservice)
    diarize, other_diarize = _ordered("diarize", "enable_diarization", webservice)
    default_output = TEXT if webservice else JSON
    refuse_conditioning(read)
    chosen = read.choice(output, OUTPUTS, read.choice(other_output, OUTPUTS, default_output))
    # the webservice has no such parameter and ignores unknown ones
    stream = not webservice and read.flag("stream", False)
    if stream and chosen is not JSON:
        raise UnsupportedOption("stream: only JSON is streamed; output_format must be json.")
    wanted = AsrRequest(
        dialect=dialect,
        output=chosen,
        task=Task(read.choice("task", TASKS, Task.TRANSCRIBE.value)),
        language=parse_language(read.text("language")),
        multilingual=_multilingual(read),
        initial_prompt=read.text("initial_prompt"),
        hotwords=read.text("hotwords"),
        model=read.text("model"),
        encode=read.flag("encode", True),
        word_timestamps=read.flag("word_timestamps", not webservice),
        diarize=read.flag(diarize, read.flag(other_diarize, not webservice)),
        speakers=read_speaker_bounds(read),
        speaker_embeddings=read.flag("return_speaker_embeddings", False),
        stream=stream,
        audio_track=read_audio_track(read),
        by_channel=read_by_channel(read),
        subtitles=read_subtitle_wishes(read, chosen),
        usual_language=wants_usual_language(read) and not _multilingual(read),
        temperature=read_temperature(read),
        beam_size=read_beam_size(read),
        speech=read_speech_detection(read),
    )
    return replace(wanted, ignored=read.ignored())


def parse_detect_request(parameters: Mapping[str, str]) -> DetectRequest:
    """The request that `parameters` (query and form, merged) describe.

    Ignores unknown ones and those of /asr.

    Raises:
        UnsupportedOption: a value that is not allowed; the message names the parameter.
    """
    read = Reader(parameters)
    wanted = DetectRequest(
        model=read.text("model"),
        encode=read.flag("encode", True),
        audio_track=read_audio_track(read),
    )
    return replace(wanted, ignored=read.ignored())


def _ordered(first: str, second: str, in_this_order: bool) -> tuple[str, str]:
    return (first, second) if in_this_order else (second, first)


def _multilingual(read: Reader) -> bool:
    """Raises UnsupportedOption if `language` names a single language too."""
    wanted = read.flag("multilingual", is_multilingual(read.text("language")))
    if wanted and parse_language(read.text("language")):
        raise UnsupportedOption("multilingual: true is not allowed if language names one.")
    return wanted


# -- documentation ------------------------------------------------------------------------------
# Parameters arrive as text and are parsed above, so both dialects, query and form share one reader
# and one kind of error. The types below are for people and for generated clients. Defaults and
# examples are in the descriptions only: Swagger UI would send those of the schema unasked and so
# change the dialect.

COUNT = WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MAX_SPEAKERS})
OUTPUT = WithJsonSchema({"type": "string", "enum": list(OUTPUTS)})
SPEAKER_SOURCE = WithJsonSchema({"type": "string", "enum": list(SPEAKERS)})
SUBTITLE_STYLE = WithJsonSchema({"type": "string", "enum": list(STYLES)})
WIDTH = WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MAX_WIDTH})
LINES = WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MAX_COUNT})
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
            "`text` is the same as `txt`.",
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
    max_line_count: Annotated[
        Text, LINES, about("Most lines in a subtitle.", "that of the style", "2")
    ] = None
    highlight_words: Annotated[
        Text,
        BOOLEAN,
        about("Underline each word as it is spoken.", "the service's own", "true"),
    ] = None
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
