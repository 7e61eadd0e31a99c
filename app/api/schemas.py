"""Request and response models of each wire format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel, Field

from app.errors import UnsupportedOption
from app.languages import parse_language
from app.transcript import SpeakerBounds, Task

OUTPUTS = {"txt": "text", "text": "text", "vtt": "vtt", "srt": "srt", "tsv": "tsv", "json": "json"}
TRUE = {"true", "1", "yes", "on"}
FALSE = {"false", "0", "no", "off"}
MAX_SPEAKERS = 100


class Dialect(StrEnum):
    """Two public dialects call themselves /asr."""

    WEBSERVICE = "webservice"
    WHISPERX = "whisperx"


@dataclass(frozen=True, slots=True)
class AsrRequest:
    """What a request asks for, once its dialect is known. `language` None: detect."""

    dialect: Dialect
    output: str
    task: Task
    language: str | None
    initial_prompt: str
    hotwords: str
    model: str  # as the client wrote it; empty for the default
    encode: bool
    word_timestamps: bool
    diarize: bool
    speakers: SpeakerBounds
    speaker_embeddings: bool


def recognise_dialect(parameters: Mapping[str, str], default: Dialect) -> Dialect:
    """By the parameters that only one of them has; the webservice's weigh more."""
    if parameters.keys() & {"output", "encode", "vad_filter"}:
        return Dialect.WEBSERVICE
    if parameters.keys() & {"output_format", "enable_diarization"}:
        return Dialect.WHISPERX
    return default


def parse_asr_request(parameters: Mapping[str, str], default_dialect: Dialect) -> AsrRequest:
    """Query and form parameters already merged. Unknown ones are ignored.

    Raises:
        UnsupportedOption: a value that is not allowed; the message names the parameter.
    """
    dialect = recognise_dialect(parameters, default_dialect)
    webservice = dialect is Dialect.WEBSERVICE
    read = _Reader(parameters)
    diarize = read.flag("diarize", read.flag("enable_diarization", not webservice))
    if not webservice:
        diarize = read.flag("enable_diarization", diarize)
    read.flag("vad_filter", True)  # checked, and that is all: speech detection is always on
    return AsrRequest(
        dialect=dialect,
        output=_output(read, webservice),
        task=Task(read.choice("task", {t.value: t.value for t in Task}, Task.TRANSCRIBE.value)),
        language=parse_language(read.text("language")),
        initial_prompt=read.text("initial_prompt"),
        hotwords=read.text("hotwords"),
        model=read.text("model").strip(),
        encode=read.flag("encode", True),
        word_timestamps=read.flag("word_timestamps", not webservice),
        diarize=diarize,
        speakers=_speaker_bounds(read),
        speaker_embeddings=read.flag("return_speaker_embeddings", False),
    )


def _output(read: _Reader, webservice: bool) -> str:
    own, other = ("output", "output_format") if webservice else ("output_format", "output")
    default = "text" if webservice else "json"
    return read.choice(own, OUTPUTS, read.choice(other, OUTPUTS, default))


def _speaker_bounds(read: _Reader) -> SpeakerBounds:
    num_speakers = read.count("num_speakers")
    least, most = read.count("min_speakers"), read.count("max_speakers")
    if num_speakers is not None:
        return SpeakerBounds(num_speakers=num_speakers)
    if least is not None and most is not None and least > most:
        raise UnsupportedOption(
            f"min_speakers: {least} is more than max_speakers, which is {most}."
        )
    return SpeakerBounds(min_speakers=least, max_speakers=most)


class _Reader:
    """Parameters as the values that they stand for; empty ones count as absent."""

    def __init__(self, parameters: Mapping[str, str]) -> None:
        self._parameters = parameters

    def text(self, name: str) -> str:
        return self._parameters.get(name, "").replace("\x00", "")

    def _given(self, name: str) -> str:
        return self.text(name).strip().lower()

    def flag(self, name: str, default: bool) -> bool:
        value = self._given(name)
        if value not in TRUE | FALSE | {""}:
            raise _not_allowed(name, value, "true, false, 1, 0, yes or no")
        return default if not value else value in TRUE

    def choice(self, name: str, choices: Mapping[str, str], default: str) -> str:
        value = self._given(name)
        if value and value not in choices:
            raise _not_allowed(name, value, f"one of {', '.join(choices)}")
        return choices[value] if value else default

    def count(self, name: str) -> int | None:
        value = self._given(name)
        if not value:
            return None
        if not (value.isascii() and value.isdigit() and 1 <= int(value[:9]) <= MAX_SPEAKERS):
            raise _not_allowed(name, value, f"a whole number from 1 to {MAX_SPEAKERS}")
        return int(value)


def _not_allowed(name: str, value: str, allowed: str) -> UnsupportedOption:
    return UnsupportedOption(f"{name}: {value[:40]!r} is not allowed; it must be {allowed}.")


# -- documentation -------------------------------------------------------------------------------
# The parameters travel as text and are parsed above, so that both dialects, query and form, share
# one reading and one kind of error. The schema has neither defaults nor examples outside the
# descriptions: Swagger UI would send them unasked and so change the dialect.


def _documented(description: str, choices: list[str] | None = None) -> Any:
    extra: dict[str, Any] = {"type": "string"}
    if choices:
        extra["enum"] = choices

    def replace_schema(schema: dict[str, Any]) -> None:
        schema.pop("anyOf", None)
        schema.pop("default", None)
        schema.update(extra)

    return Query(description=description, json_schema_extra=_as_schema(replace_schema))


def _as_schema(change: Callable[[dict[str, Any]], None]) -> Any:
    return change


Text = str | None
BOOLEANS = ["true", "false"]


class DetectParameters(BaseModel):
    """The query parameters of POST /detect-language."""

    encode: Annotated[
        Text,
        _documented(
            "false: the upload is raw 16 kHz mono signed 16-bit little-endian PCM without a "
            "header. Default: true. Example: false.",
            BOOLEANS,
        ),
    ] = None
    model: Annotated[
        Text,
        _documented("Model to ask, one of /v1/models. Default: the service's. Example: large-v3."),
    ] = None


class AsrParameters(DetectParameters):
    """The query parameters of POST /asr."""

    task: Annotated[
        Text,
        _documented(
            "transcribe, or translate into English. Default: transcribe. Example: translate.",
            [t.value for t in Task],
        ),
    ] = None
    language: Annotated[
        Text,
        _documented(
            "Whisper code or English name of the language spoken; auto or nothing: detected. "
            "Default: detected. Example: en."
        ),
    ] = None
    initial_prompt: Annotated[
        Text,
        _documented(
            "Text that goes before, for style and spelling. Default: none. "
            "Example: Minutes of the budget meeting."
        ),
    ] = None
    hotwords: Annotated[
        Text,
        _documented("Words to listen for. Default: none. Example: Speakr, Bazarr."),
    ] = None
    output: Annotated[
        Text,
        _documented(
            "Format of the answer, webservice dialect: giving it chooses that dialect. "
            "Default: txt. Example: srt.",
            ["txt", "vtt", "srt", "tsv", "json"],
        ),
    ] = None
    output_format: Annotated[
        Text,
        _documented(
            "Format of the answer, WhisperX dialect. Default: json. Example: srt.",
            ["json", "text", "srt", "vtt", "tsv"],
        ),
    ] = None
    word_timestamps: Annotated[
        Text,
        _documented(
            "Words with times in JSON. Default: true; false in the webservice dialect. "
            "Example: true.",
            BOOLEANS,
        ),
    ] = None
    vad_filter: Annotated[
        Text,
        _documented(
            "Accepted for compatibility (speech detection is always on); giving it chooses the "
            "webservice dialect. Default: true. Example: true.",
            BOOLEANS,
        ),
    ] = None
    enable_diarization: Annotated[
        Text,
        _documented(
            "Tell speakers apart, WhisperX dialect. Default: true. Example: false.", BOOLEANS
        ),
    ] = None
    diarize: Annotated[
        Text,
        _documented(
            "Tell speakers apart, both dialects. Default: false in the webservice dialect, true in "
            "the WhisperX dialect. Example: true.",
            BOOLEANS,
        ),
    ] = None
    num_speakers: Annotated[
        Text,
        _documented(
            "Exact number of speakers; the next two are ignored then. Default: found out. "
            "Example: 2."
        ),
    ] = None
    min_speakers: Annotated[Text, _documented("Speakers at least. Default: 1. Example: 2.")] = None
    max_speakers: Annotated[
        Text, _documented("Speakers at most. Default: no limit. Example: 4.")
    ] = None
    return_speaker_embeddings: Annotated[
        Text,
        _documented(
            "A voice vector of each speaker in JSON. Default: false. Example: true.", BOOLEANS
        ),
    ] = None


class WordBody(BaseModel):
    word: str
    start: float | None = None
    end: float | None = None
    score: float | None = None
    speaker: str | None = None


class SegmentBody(BaseModel):
    start: float
    end: float
    text: str
    speaker: str | None = None
    words: list[WordBody] | None = None


class SpeakerBody(BaseModel):
    speaker: str
    total_duration: float
    segment_count: int


class TranscriptBody(BaseModel):
    """The JSON answer of POST /asr."""

    text: str | list[SegmentBody] = Field(
        description="The transcript (webservice dialect), or the segments (WhisperX dialect)."
    )
    language: str
    segments: list[SegmentBody]
    word_segments: list[WordBody]
    duration: float
    model: str
    speakers: list[SpeakerBody] | None = None
    speaker_embeddings: dict[str, list[float]] | None = None
    warnings: list[str] | None = None


class LanguageBody(BaseModel):
    """The answer of POST /detect-language."""

    detected_language: str = Field(examples=["english"])
    language_code: str = Field(examples=["en"])
    confidence: float = Field(examples=[0.98])


class ErrorBody(BaseModel):
    detail: str = Field(description="One clear sentence.")


class HealthBody(BaseModel):
    status: str
    device: str
    compute_type: str
    version: str
    default_model: str
    loaded_models: list[str] = Field(description="Names of recognizers.")
    requests: int = Field(description="Requests that are being served.")


class ReadyBody(BaseModel):
    status: str


class ModelBody(BaseModel):
    id: str
    object: str = "model"
    created: int = 0
    owned_by: str
    loaded: bool


class ModelListBody(BaseModel):
    object: str = "list"
    data: list[ModelBody]
