"""Request and response models of each wire format."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from app.domain.errors import UnsupportedOption
from app.domain.languages import is_multilingual, parse_language
from app.domain.transcript import SpeakerBounds, Task

OUTPUTS = {"txt": "text", "text": "text", "vtt": "vtt", "srt": "srt", "tsv": "tsv", "json": "json"}
TASKS = {task.value: task.value for task in Task}
TRUE = frozenset({"true", "1", "yes", "on", "t", "y"})
FALSE = frozenset({"false", "0", "no", "off", "f", "n"})
SPEAKERS = {name: name for name in ("voices", "channels")}
MAX_SPEAKERS = 100
MAX_TRACK_LENGTH = 40


class Dialect(StrEnum):
    """Two public dialects call themselves /asr."""

    WEBSERVICE = "webservice"
    WHISPERX = "whisperx"


@dataclass(frozen=True, slots=True)
class DetectRequest:
    """What a request to /detect-language asks for. `model`: as written; empty for the default."""

    model: str
    encode: bool
    audio_track: str = ""  # an index or a language; empty: the best


@dataclass(frozen=True, slots=True)
class AsrRequest:
    """What a request asks for, once its dialect is known. `language` None: detect."""

    dialect: Dialect
    output: str
    task: Task
    language: str | None
    multilingual: bool
    initial_prompt: str
    hotwords: str
    model: str  # as the client wrote it; empty for the default
    encode: bool
    word_timestamps: bool
    diarize: bool
    speakers: SpeakerBounds
    speaker_embeddings: bool
    stream: bool
    audio_track: str = ""  # an index or a language; empty: the best
    by_channel: bool = False  # each channel is a speaker


def merge_parameters(
    fields: Mapping[str, Sequence[str]], query: Mapping[str, str]
) -> dict[str, str]:
    """Form fields (the last of a name) and query parameters as one: the query wins, an empty value
    is none at all.
    """
    merged = {}
    for name, value in (*((name, values[-1]) for name, values in fields.items()), *query.items()):
        if text := value.replace("\x00", "").strip():
            merged[name] = text
    return merged


def recognise_dialect(parameters: Mapping[str, str], default: Dialect) -> Dialect:
    """By the parameters that only one of them has; the webservice's weigh more."""
    if parameters.keys() & {"output", "encode", "vad_filter"}:
        return Dialect.WEBSERVICE
    if parameters.keys() & {"output_format", "enable_diarization"}:
        return Dialect.WHISPERX
    return default


def parse_asr_request(parameters: Mapping[str, str], default_dialect: Dialect) -> AsrRequest:
    """`parameters`: query and form, merged. Unknown ones are ignored.

    Raises:
        UnsupportedOption: a value that is not allowed; the message names the parameter.
    """
    dialect = recognise_dialect(parameters, default_dialect)
    webservice = dialect is Dialect.WEBSERVICE
    read = Reader(parameters)
    # where both spellings are given, the dialect's own weighs more
    output, other_output = _ordered("output", "output_format", webservice)
    diarize, other_diarize = _ordered("diarize", "enable_diarization", webservice)
    default_output = "text" if webservice else "json"
    read.flag("vad_filter", True)  # checked, and that is all: speech detection is always on
    chosen = read.choice(output, OUTPUTS, read.choice(other_output, OUTPUTS, default_output))
    # the webservice has none such, and ignores what it does not know
    stream = not webservice and read.flag("stream", False)
    if stream and chosen != "json":
        raise UnsupportedOption("stream: only JSON is streamed; output_format must be json.")
    return AsrRequest(
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
        speakers=_speaker_bounds(read),
        speaker_embeddings=read.flag("return_speaker_embeddings", False),
        stream=stream,
        audio_track=_audio_track(read),
        by_channel=_by_channel(read),
    )


def parse_detect_request(parameters: Mapping[str, str]) -> DetectRequest:
    """`parameters`: query and form, merged. Unknown ones, and those of /asr, are ignored.

    Raises:
        UnsupportedOption: a value that is not allowed; the message names the parameter.
    """
    read = Reader(parameters)
    return DetectRequest(
        model=read.text("model"),
        encode=read.flag("encode", True),
        audio_track=_audio_track(read),
    )


def _ordered(first: str, second: str, in_this_order: bool) -> tuple[str, str]:
    return (first, second) if in_this_order else (second, first)


def _multilingual(read: Reader) -> bool:
    """Raises UnsupportedOption where one language is asked for as well."""
    wanted = read.flag("multilingual", is_multilingual(read.text("language")))
    if wanted and parse_language(read.text("language")):
        raise UnsupportedOption("multilingual: true is not allowed where language names one.")
    return wanted


def _audio_track(read: Reader) -> str:
    """Whether there is such a track is known once the file is opened."""
    value = read.text("audio_track")
    if len(value) > MAX_TRACK_LENGTH:
        raise not_allowed("audio_track", value, "an index from 0 or a language, such as 1 or fre")
    return value


def _by_channel(read: Reader) -> bool:
    by_channel = read.choice("speakers", SPEAKERS, "voices") == "channels"
    if by_channel:
        for name in ("num_speakers", "min_speakers", "max_speakers"):
            if read.text(name):
                raise UnsupportedOption(
                    f"{name}: not allowed with speakers=channels; each channel is one speaker."
                )
    return by_channel


def _speaker_bounds(read: Reader) -> SpeakerBounds:
    num_speakers = read.count("num_speakers")
    if num_speakers is not None:  # the other two are ignored
        return SpeakerBounds(num_speakers=num_speakers)
    least, most = read.count("min_speakers"), read.count("max_speakers")
    if least is not None and most is not None and least > most:
        raise UnsupportedOption(
            f"min_speakers: {least} is not allowed; it must not be more than max_speakers, "
            f"which is {most}."
        )
    return SpeakerBounds(min_speakers=least, max_speakers=most)


class Reader:
    """Merged parameters as the values that they stand for."""

    def __init__(self, parameters: Mapping[str, str]) -> None:
        self._parameters = parameters

    def text(self, name: str) -> str:
        return self._parameters.get(name, "")

    def flag(self, name: str, default: bool) -> bool:
        value = self.text(name).lower()
        if value and value not in TRUE | FALSE:
            raise not_allowed(name, value, "true, false, 1, 0, yes or no")
        return value in TRUE if value else default

    def number(self, name: str, least: float, most: float, default: float) -> float:
        value = self.text(name)
        try:
            number = float(value) if value else default
        except ValueError:
            number = math.nan
        if not least <= number <= most:
            raise not_allowed(name, value, f"a number from {least:g} to {most:g}")
        return number

    def choice(self, name: str, choices: Mapping[str, str], default: str) -> str:
        value = self.text(name).lower()
        if value and value not in choices:
            raise not_allowed(name, value, f"one of {', '.join(choices)}")
        return choices[value] if value else default

    def count(self, name: str) -> int | None:
        value = self.text(name)
        if not value:
            return None
        # their length first: int() refuses some thousands of digits in its own way
        is_number = value.isascii() and value.isdigit() and len(value) < 10
        if not (is_number and 1 <= int(value) <= MAX_SPEAKERS):
            raise not_allowed(name, value, f"a whole number from 1 to {MAX_SPEAKERS}")
        return int(value)


def not_allowed(name: str, value: str, allowed: str) -> UnsupportedOption:
    return UnsupportedOption(f"{name}: {value[:40]!r} is not allowed; it must be {allowed}.")


# -- documentation of the requests ---------------------------------------------------------------
# The parameters travel as text and are parsed above, so that both dialects, query and form, share
# one reading and one kind of error; the types below are for readers and generated clients. Defaults
# and examples stand in the descriptions alone: where the schema has them, Swagger UI sends them
# unasked and so changes the dialect.

Text = str | None
BOOLEAN = WithJsonSchema({"type": "boolean"})
COUNT = WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MAX_SPEAKERS})
OUTPUT = WithJsonSchema({"type": "string", "enum": list(OUTPUTS)})
SPEAKER_SOURCE = WithJsonSchema({"type": "string", "enum": list(SPEAKERS)})
TASK = WithJsonSchema({"type": "string", "enum": list(TASKS)})
FREE = WithJsonSchema({"type": "string"})


def _about(text: str, default: str, example: str) -> Any:
    return Query(description=f"{text} Default: {default}. Example: `{example}`.")


ABOUT_MODEL = _about("Model to use, one of `/v1/models`.", "the service's own", "large-v3")
ABOUT_ENCODE = _about(
    "`false`: the upload is raw 16 kHz mono signed 16-bit little-endian PCM without a header. "
    "On `/asr`, giving it chooses the webservice dialect.",
    "`true`",
    "false",
)


ABOUT_AUDIO_TRACK = _about(
    "Which audio track of the file: its index, from 0, or its language.",
    "the default track, or the first one with sound",
    "fre",
)


class DetectParameters(BaseModel):
    """The query parameters of POST /detect-language."""

    model: Annotated[Text, FREE, ABOUT_MODEL] = None
    audio_track: Annotated[Text, FREE, ABOUT_AUDIO_TRACK] = None
    encode: Annotated[Text, BOOLEAN, ABOUT_ENCODE] = None


class AsrParameters(BaseModel):
    """The query parameters of POST /asr."""

    output: Annotated[
        Text,
        OUTPUT,
        _about(
            "Format of the answer in the webservice dialect; giving it chooses that dialect. "
            "`text` is the same as `txt`.",
            "`txt`",
            "srt",
        ),
    ] = None
    output_format: Annotated[
        Text,
        OUTPUT,
        _about(
            "Format of the answer in the WhisperX dialect; giving it chooses that dialect, unless "
            "something else chooses the other. `txt` is the same as `text`.",
            "`json`",
            "srt",
        ),
    ] = None
    language: Annotated[
        Text,
        FREE,
        _about(
            "Whisper code or English name of the language spoken; `auto`: detect it; `multi`: each "
            "part of the recording in its own.",
            "`auto`",
            "en",
        ),
    ] = None
    multilingual: Annotated[
        Text,
        BOOLEAN,
        _about(
            "The same as `language=multi`: segments carry the `language` of their part.",
            "`false`",
            "true",
        ),
    ] = None
    task: Annotated[
        Text,
        TASK,
        _about(
            "`translate`: into English; the times of its words are approximate.",
            "`transcribe`",
            "translate",
        ),
    ] = None
    model: Annotated[Text, FREE, ABOUT_MODEL] = None
    initial_prompt: Annotated[
        Text,
        FREE,
        _about(
            "Text that might have gone before, for style and spelling.",
            "none",
            "Minutes of the budget meeting.",
        ),
    ] = None
    hotwords: Annotated[
        Text, FREE, _about("Words and names to listen for.", "none", "Speakr, Bazarr")
    ] = None
    word_timestamps: Annotated[
        Text,
        BOOLEAN,
        _about(
            "Whether JSON has the words with their times.",
            "`true`; `false` in the webservice dialect",
            "true",
        ),
    ] = None
    diarize: Annotated[
        Text,
        BOOLEAN,
        _about(
            "Whether to tell speakers apart, in both dialects.",
            "`true`; `false` in the webservice dialect",
            "true",
        ),
    ] = None
    enable_diarization: Annotated[
        Text,
        BOOLEAN,
        _about(
            "The same in the WhisperX dialect; giving it chooses that dialect, unless something "
            "else chooses the other.",
            "as `diarize`",
            "false",
        ),
    ] = None
    speakers: Annotated[
        Text,
        SPEAKER_SOURCE,
        _about(
            "How speakers are told apart: by their `voices`, where diarization is on; or by "
            "`channels`, for calls with one party on each: SPEAKER_00 is the first channel.",
            "`voices`",
            "channels",
        ),
    ] = None
    num_speakers: Annotated[
        Text,
        COUNT,
        _about("Exact number of speakers; the next two are ignored then.", "found out", "2"),
    ] = None
    min_speakers: Annotated[Text, COUNT, _about("Speakers at least.", "1", "2")] = None
    max_speakers: Annotated[Text, COUNT, _about("Speakers at most.", "no limit", "4")] = None
    return_speaker_embeddings: Annotated[
        Text,
        BOOLEAN,
        _about("Whether JSON has a voice vector of each speaker.", "`false`", "true"),
    ] = None
    stream: Annotated[
        Text,
        BOOLEAN,
        _about(
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
        _about(
            "Accepted for compatibility: speech detection is always on. Giving it chooses the "
            "webservice dialect.",
            "`true`",
            "true",
        ),
    ] = None


# -- responses -----------------------------------------------------------------------------------


class WordBody(BaseModel):
    """A word as written; without times where it could not be aligned."""

    word: str
    start: float | None = Field(None, description="Seconds.")
    end: float | None = Field(None, description="Seconds.")
    score: float | None = Field(None, description="How sure its place is, from 0 to 1.")
    speaker: str | None = None


class SegmentBody(BaseModel):
    """A sentence or less, of one speaker."""

    start: float = Field(description="Seconds.")
    end: float = Field(description="Seconds.")
    text: str = Field(description="With its leading space: joining them rebuilds the transcript.")
    speaker: str | None = Field(None, description="Where speakers were told apart.")
    language: str | None = Field(None, description="Where each part has its own (`multi`).")
    words: list[WordBody] | None = Field(None, description="Where asked for and aligned.")


class SpeakerBody(BaseModel):
    speaker: str
    total_duration: float = Field(description="Seconds.")
    segment_count: int


_WORD: dict[str, Any] = {
    "word": "Hello.",
    "start": 0.62,
    "end": 1.04,
    "score": 0.91,
    "speaker": "SPEAKER_00",
}
_SEGMENT: dict[str, Any] = {
    "start": 0.62,
    "end": 1.04,
    "text": " Hello.",
    "speaker": "SPEAKER_00",
    "words": [_WORD],
}


class TranscriptBody(BaseModel):
    """The JSON answer of POST /asr."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "text": [_SEGMENT],
                "language": "en",
                "segments": [_SEGMENT],
                "word_segments": [_WORD],
                "duration": 2.5,
                "model": "large-v3",
                "speakers": [{"speaker": "SPEAKER_00", "total_duration": 0.42, "segment_count": 1}],
            }
        }
    )

    text: str | list[SegmentBody] = Field(
        description="The transcript (webservice dialect), or the segments (WhisperX dialect)."
    )
    language: str = Field(description="Code of the language spoken.")
    segments: list[SegmentBody]
    word_segments: list[WordBody] = Field(description="The words of all segments.")
    duration: float = Field(description="Of the recording, in seconds.")
    model: str
    speakers: list[SpeakerBody] | None = Field(None, description="Where they were told apart.")
    speaker_embeddings: dict[str, list[float]] | None = Field(
        None, description="A vector for each speaker, where asked for."
    )
    warnings: list[str] | None = Field(None, description="What the transcript lacks, and why.")


class LanguageBody(BaseModel):
    """The answer of POST /detect-language."""

    detected_language: str = Field(description="English name.", examples=["english"])
    language_code: str = Field(description="Whisper's code.", examples=["en"])
    confidence: float = Field(description="From 0 to 1.", examples=[0.98])


class ErrorBody(BaseModel):
    detail: str = Field(description="One clear sentence.")


class OpenAIErrorDetail(BaseModel):
    message: str = Field(description="One clear sentence.")
    type: str = Field(examples=["invalid_request_error"])
    param: str | None = Field(description="The parameter that is at fault.")
    code: str | None = Field(description="Machine readable.")


class OpenAIErrorBody(BaseModel):
    error: OpenAIErrorDetail


class HealthBody(BaseModel):
    status: str = Field(description="healthy or unhealthy.", examples=["healthy"])
    device: str = Field(examples=["cuda"])
    compute_type: str = Field(examples=["float16"])
    version: str
    default_model: str = Field(examples=["large-v3"])
    loaded_models: list[str] = Field(description="Names of recognizers.", examples=[["large-v3"]])
    requests: int = Field(description="Requests that are being served.", examples=[0])
    degraded: list[str] = Field(
        description="What does not work at present, in sentences; the rest does.", examples=[[]]
    )


class ReadyBody(BaseModel):
    status: str = Field(examples=["ready"])


class ModelBody(BaseModel):
    id: str = Field(examples=["large-v3"])
    object: str = "model"
    created: int = 0
    owned_by: str
    loaded: bool


class ModelListBody(BaseModel):
    object: str = "list"
    data: list[ModelBody]


class QueueEntryBody(BaseModel):
    """A request that is under way; never its content."""

    id: str = Field(description="The request's X-Request-ID.")
    client: str | None = Field(description="The name of its API key, null where there are none.")
    kind: str = Field(examples=["transcription"])
    state: str = Field(description="waiting (upload, decoding) or running.")
    model: str
    audio_seconds: float | None = Field(description="Known once the upload is decoded.")
    progress: float = Field(description="0 to 1, an estimate.")
    elapsed_seconds: float
    seconds_left: float | None = Field(description="An estimate, null while there is none.")


class QueueBody(BaseModel):
    requests: list[QueueEntryBody]
