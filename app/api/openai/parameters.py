"""The parameters of OpenAI's audio API: parsing."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from app.api.decoding_parameters import (
    read_beam_size,
    read_speaker_bounds,
    read_speech_detection,
    read_temperature,
    refuse_conditioning,
    wants_usual_language,
)
from app.api.forms import MAX_FIELD_BYTES, FormLayout
from app.api.parameters import Reader, not_allowed
from app.api.subtitles import NO_WISHES, SubtitleWishes, read_subtitle_wishes
from app.domain.errors import UnsupportedOption
from app.domain.languages import is_multilingual, parse_language
from app.domain.options import SpeakerBounds, SpeechDetection, Task
from app.formats.table import (
    DIARIZED_JSON,
    JSON,
    MARKDOWN,
    OPENAI_FORMATS,
    OPENAI_TRANSLATION_FORMATS,
    OPENAI_VTT,
    SRT,
    TEXT,
    VERBOSE_JSON,
    OutputFormat,
)
from app.models.names import short_names

UNSTREAMED_MODEL = "whisper-1"  # of which OpenAI ignores `stream`
DIARIZING_MODEL = "gpt-4o-transcribe-diarize"
REFERENCES = "known_speaker_references"
NAMES = "known_speaker_names"
MAX_REFERENCES = 8
# read from all values of a field, not by `Reader`
LISTS = ("timestamp_granularities", "include", "keywords", "languages", NAMES)
# 10 s of 48 kHz stereo in 32-bit samples take 3.7 MB, or 4.9 MB in base64
OPENAI_FORM = FormLayout("file", {REFERENCES: 6 << 20}, MAX_REFERENCES, or_json=True)

# Formats in which a diarizing model, or known speakers, tell speakers apart unasked.
SHOW_SPEAKERS = (VERBOSE_JSON, SRT, OPENAI_VTT, MARKDOWN)
ABOUT_SPEAKERS = ("num_speakers", "min_speakers", "max_speakers")

TRANSLATED = {output.name: output for output in OPENAI_TRANSLATION_FORMATS}
OUTPUTS = {output.name: output for output in OPENAI_FORMATS}
STREAMED = (JSON, TEXT, DIARIZED_JSON)
GRANULARITIES = ("word", "segment")
INCLUDES = ("logprobs",)
MAX_NAME_LENGTH = 64
TAKEN = re.compile(r"SPEAKER_\d+|unknown")  # labels of speakers without a name

# The numbers of a "server_vad" and their ranges. Validated, but without effect: the same speech
# detection is always on, and the operator sets VAD_ONSET and VAD_OFFSET.
VAD_LIMITS = {
    "prefix_padding_ms": (0, 60_000),
    "silence_duration_ms": (0, 60_000),
    "threshold": (0, 1),
}


@dataclass(frozen=True, slots=True)
class OpenAIRequest:
    """A parsed request. `model`: as the client wrote it; empty: the default."""

    task: Task
    model: str
    output: OutputFormat
    language: str | None
    languages: tuple[str, ...]
    multilingual: bool
    prompt: str
    hotwords: str
    temperature: float
    with_words: bool
    with_segments: bool
    with_logprobs: bool
    diarize: bool
    must_diarize: bool
    with_speakers: bool  # in formats that do not always have them
    speakers: SpeakerBounds
    speaker_embeddings: bool
    usual_language: bool  # the operator's applies
    beam_size: int | None
    speech: SpeechDetection
    names: tuple[str, ...]
    stream: bool
    subtitles: SubtitleWishes = NO_WISHES
    ignored: tuple[str, ...] = ()  # fields without effect


def parse_openai_request(fields: Mapping[str, Sequence[str]], task: Task) -> OpenAIRequest:
    """The request that form fields describe. Only notes unknown fields.

    Raises:
        UnsupportedOption: a value that is not allowed; the message names the parameter.
    """
    lists = {
        name: [text for value in values if (text := value.replace("\x00", "").strip())]
        for name, values in fields.items()
    }
    read = Reader({name: values[-1] for name, values in lists.items() if values})
    outputs = TRANSLATED if task is Task.TRANSLATE else OUTPUTS
    output = read.choice("response_format", outputs, JSON)
    stream = read.flag("stream", False)
    if stream and output not in STREAMED and UNSTREAMED_MODEL in _called(read):
        stream = False  # as at OpenAI
        read.ignore("stream")
    if stream and output not in STREAMED:
        raise UnsupportedOption(
            f"stream: response_format {output.name} is not streamed; it must be one of "
            f"{', '.join(streamed.name for streamed in STREAMED)}."
        )
    granularities = _several(lists, "timestamp_granularities", GRANULARITIES) or ["segment"]
    with_logprobs = bool(_several(lists, "include", INCLUDES))
    if with_logprobs and output is not JSON:
        raise UnsupportedOption("include: logprobs require the response_format json.")
    _check_chunking(read)
    refuse_conditioning(read)
    names = _names(lists)
    model = read.text("model")
    languages = _languages(lists.get("languages", []))
    multilingual = is_multilingual(read.text("language"))
    only_one = languages[0] if len(languages) == 1 and not multilingual else None
    implied = output is DIARIZED_JSON or (
        output in SHOW_SPEAKERS and (DIARIZING_MODEL in _called(read) or bool(names))
    )
    asked = _asks_for_speakers(read, output)
    wanted = OpenAIRequest(
        task=task,
        model=model,
        output=output,
        language=parse_language(read.text("language")) or only_one,
        languages=languages,
        multilingual=multilingual,
        prompt=read.text("prompt"),
        hotwords=_hotwords(read.text("hotwords"), lists.get("keywords", [])),
        temperature=read_temperature(read),
        with_words="word" in granularities,
        with_segments="segment" in granularities,
        with_logprobs=with_logprobs,
        diarize=implied if asked is None else asked,
        must_diarize=implied,
        with_speakers=bool(asked),
        speakers=read_speaker_bounds(read),
        speaker_embeddings=read.flag("return_speaker_embeddings", False),
        usual_language=wants_usual_language(read) and not languages,
        beam_size=read_beam_size(read),
        speech=read_speech_detection(read),
        names=names,
        stream=stream,
        subtitles=read_subtitle_wishes(read, output),
    )
    return replace(wanted, ignored=read.ignored(*LISTS))


def _called(read: Reader) -> tuple[str, ...]:
    """The model's names without owner, date and capitals."""
    return short_names(read.text("model"))


def _asks_for_speakers(read: Reader, output: OutputFormat) -> bool | None:
    """None if the request leaves it to the model and the format."""
    if read.text("diarize"):
        wanted = read.flag("diarize", False)
        if not wanted and output is DIARIZED_JSON:
            raise UnsupportedOption("diarize: false is not allowed with diarized_json.")
        return wanted
    numbered = any(read.text(name) for name in ABOUT_SPEAKERS)
    return True if numbered or read.flag("return_speaker_embeddings", False) else None


def _several(
    lists: Mapping[str, Sequence[str]], name: str, allowed: Sequence[str]
) -> Sequence[str]:
    values = lists.get(name, [])
    for value in values:
        if value not in allowed:
            raise not_allowed(name, value, f"one of {', '.join(allowed)}")
    return values


def _hotwords(hotwords: str, keywords: Sequence[str]) -> str:
    """Both in one, as long as a single field may be."""
    joined = ", ".join([*filter(None, [hotwords]), *keywords])
    if len(joined) > MAX_FIELD_BYTES:
        raise UnsupportedOption(f"keywords: longer than {MAX_FIELD_BYTES >> 10} kB in all.")
    return joined


def _languages(values: Sequence[str]) -> tuple[str, ...]:
    try:
        parsed = [parse_language(value) for value in values]
    except UnsupportedOption as error:
        raise UnsupportedOption(f"languages{error.message.removeprefix('language')}") from None
    return tuple(dict.fromkeys(language for language in parsed if language))


def _names(lists: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    names = lists.get(NAMES, [])
    for i, name in enumerate(names):
        if len(name) > MAX_NAME_LENGTH or not name.isprintable():
            raise UnsupportedOption(
                f"{NAMES}[{i}]: must be printable and of at most {MAX_NAME_LENGTH} characters."
            )
        if TAKEN.fullmatch(name):
            raise UnsupportedOption(f"{NAMES}[{i}]: {name} is reserved for speakers without names.")
    if len(set(names)) < len(names):
        raise UnsupportedOption(f"{NAMES}: each name may be given only once.")
    return tuple(names)


def check_references(wanted: OpenAIRequest, num_references: int) -> None:
    """Raises UnsupportedOption unless each name has one recording."""
    if len(wanted.names) != num_references:
        raise UnsupportedOption(
            f"{REFERENCES}: one is required for each of {NAMES}; got {num_references} for "
            f"{len(wanted.names)}."
        )


def _check_chunking(read: Reader) -> None:
    """Validate `auto`, or an object sent as JSON or as separate fields."""
    given = read.text("chunking_strategy")
    options: dict[str, Any] = {}
    if given.startswith("{"):
        try:
            options = json.loads(given)
        except (ValueError, RecursionError):
            raise not_allowed("chunking_strategy", given, "auto or a server_vad object") from None
        given = str(options.get("type", ""))
    else:
        options = {name: read.text(f"chunking_strategy[{name}]") for name in VAD_LIMITS}
        given = given or read.text("chunking_strategy[type]")
    if given not in ("", "auto", "server_vad"):
        raise not_allowed("chunking_strategy", given, "auto or a server_vad object")
    named = {
        f"chunking_strategy[{name}]": str(options[name])
        for name in VAD_LIMITS
        if options.get(name) not in (None, "")
    }
    for name, (least, most) in VAD_LIMITS.items():
        Reader(named).number(f"chunking_strategy[{name}]", least, most, least)
