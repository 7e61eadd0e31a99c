"""The parameters of /asr and /detect-language, parsed. `schema.py` describes them for /docs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from app.api.decoding_parameters import (
    read_beam_size,
    read_speaker_bounds,
    read_speech_detection,
    read_temperature,
    refuse_conditioning,
    wants_usual_language,
)
from app.api.parameters import Reader, not_allowed
from app.api.subtitles import NO_WISHES, SubtitleWishes, read_subtitle_wishes
from app.domain.errors import UnsupportedOption
from app.domain.languages import is_multilingual, parse_language
from app.domain.options import SpeakerBounds, SpeechDetection, Task
from app.formats.table import ASR_FORMATS, JSON, TEXT, OutputFormat

OUTPUTS = {name: output for output in ASR_FORMATS for name in (*output.aliases, output.name)}
TASKS = {task.value: task.value for task in Task}
SPEAKERS = {name: name for name in ("voices", "channels")}
MAX_TRACK_LENGTH = 40


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
        audio_track=_audio_track(read),
        by_channel=_by_channel(read),
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
        audio_track=_audio_track(read),
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


def _audio_track(read: Reader) -> str:
    """The track as written; whether it exists is known once the file is opened."""
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
