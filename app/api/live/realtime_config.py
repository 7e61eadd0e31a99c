"""The session of OpenAI's Realtime transcription: what a client sets, and how it is shown.

Source: OpenAI's API reference, Realtime, transcription sessions (GA), and the beta form of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from app.api.intake import resolve_model
from app.api.live.values import MAX_PROMPT_CHARS, number, text, texts
from app.api.openai.parameters import DIARIZING_MODEL
from app.audio.stream import HIGHEST_RATE, LOWEST_RATE, Encoding
from app.domain.errors import UnsupportedOption
from app.domain.languages import parse_language
from app.live.endpointing import EndpointOptions
from app.live.options import LiveOptions
from app.models.names import short_names
from app.service.service import Service

PCM, PCMU, PCMA = "audio/pcm", "audio/pcmu", "audio/pcma"
ENCODINGS = {PCM: Encoding.S16, PCMU: Encoding.ULAW, PCMA: Encoding.ALAW}
BETA_FORMATS = {"pcm16": PCM, "g711_ulaw": PCMU, "g711_alaw": PCMA}
MAX_MESSAGE_CHARS = 100_000  # of a prompt; what is more than its limit has no effect
PCM_RATE, G711_RATE = 24_000, 8_000
EAGERNESS_S = {"low": 1.0, "medium": 0.6, "auto": 0.6, "high": 0.35}
DEFAULT_VAD = {
    "type": "server_vad",
    "threshold": 0.5,
    "prefix_padding_ms": 300,
    "silence_duration_ms": 500,
}

# OpenAI has them for live speech only: clients say where utterances end, and are told words before.
LIVE_MODELS = ("gpt-realtime-whisper", "gpt-live-transcribe")

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RealtimeConfig:
    """`model`: as the client wrote it. `turn_detection` None: the client commits."""

    options: LiveOptions
    model: str
    format_type: str = PCM
    turn_detection: Mapping[str, Any] | None = None

    @property
    def format(self) -> Object:
        if self.format_type == PCM:
            return {"type": PCM, "rate": self.options.rate}
        return {"type": self.format_type}

    def transcription(self) -> Object:
        options = self.options
        return {"model": self.model, "language": options.language, "prompt": options.prompt}


def default_config(service: Service, model: str = "") -> RealtimeConfig:
    """Raises UnknownModel."""
    options = LiveOptions(
        resolve_model(service, model),
        encoding=Encoding.S16,
        rate=PCM_RATE,
        use_context=False,
    )
    config = RealtimeConfig(options, model or options.model)
    return _with_turn_detection(config, DEFAULT_VAD)


def updated(service: Service, before: RealtimeConfig, session: Mapping[str, Any]) -> RealtimeConfig:
    """The config after `session.update`. Raises UnsupportedOption."""
    audio = _object(_object(session, "audio"), "input")
    config = _with_format(before, audio["format"]) if "format" in audio else before
    return _with_speech(service, config, audio, "transcription")


def beta_updated(
    service: Service, before: RealtimeConfig, session: Mapping[str, Any]
) -> RealtimeConfig:
    """The config after `transcription_session.update`. Raises UnsupportedOption."""
    config = before
    if "input_audio_format" in session:
        name = session["input_audio_format"]
        if not isinstance(name, str) or name not in BETA_FORMATS:
            raise UnsupportedOption(f"input_audio_format: one of {', '.join(BETA_FORMATS)}.")
        config = _with_format(config, {"type": BETA_FORMATS[name]})
    return _with_speech(service, config, session, "input_audio_transcription")


def _with_speech(
    service: Service, config: RealtimeConfig, session: Mapping[str, Any], name: str
) -> RealtimeConfig:
    before = config.model
    if session.get(name) is not None:
        config = _with_transcription(service, config, _object(session, name))
    live = config.model.lower().rpartition("/")[2].startswith(LIVE_MODELS)
    if "turn_detection" in session:
        config = _with_turn_detection(config, session["turn_detection"])
    elif live and config.model != before:
        config = _with_turn_detection(config, None)
    # of other models nobody expects words that may still be dropped
    partials = live or config.turn_detection is not None
    return replace(config, options=replace(config.options, partials=partials))


def _with_format(config: RealtimeConfig, wanted: object) -> RealtimeConfig:
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if not isinstance(wanted, dict) or not isinstance(kind, str) or kind not in ENCODINGS:
        raise UnsupportedOption(f"audio.input.format.type: one of {', '.join(ENCODINGS)}.")
    rate = G711_RATE
    if kind == PCM:
        rate = round(_number(wanted, "rate", LOWEST_RATE, HIGHEST_RATE, PCM_RATE))
    options = replace(config.options, encoding=ENCODINGS[kind], rate=rate)
    return replace(config, options=options, format_type=kind)


def _with_transcription(
    service: Service, config: RealtimeConfig, wanted: Mapping[str, Any]
) -> RealtimeConfig:
    options = config.options
    if name := wanted.get("model"):
        name = text("transcription.model", name)
        diarize = DIARIZING_MODEL in short_names(name)
        options = replace(options, model=resolve_model(service, name), diarize=diarize)
        config = replace(config, model=name)
    if "language" in wanted:
        language = parse_language(text("transcription.language", wanted["language"]))
        options = replace(options, language=language)
    if languages := texts("transcription.languages", wanted.get("languages")):
        only = languages[0] if len(languages) == 1 else ""
        options = replace(options, language=parse_language(only))
    if "prompt" in wanted:
        prompt = text("transcription.prompt", wanted["prompt"], MAX_MESSAGE_CHARS)
        options = replace(options, prompt=prompt[:MAX_PROMPT_CHARS])
    if "keywords" in wanted:
        keywords = ", ".join(texts("transcription.keywords", wanted["keywords"]))
        options = replace(options, hotwords=keywords[:MAX_PROMPT_CHARS])
    return replace(config, options=options)


def _with_turn_detection(config: RealtimeConfig, wanted: object) -> RealtimeConfig:
    if wanted is None:
        options = replace(config.options, endpoints=None)
        return replace(config, options=options, turn_detection=None)
    if not isinstance(wanted, Mapping) or wanted.get("type", "server_vad") not in (
        "server_vad",
        "semantic_vad",
    ):
        raise UnsupportedOption("turn_detection.type: server_vad, semantic_vad, or null.")
    shown: Object = dict(DEFAULT_VAD)
    if wanted.get("type") == "semantic_vad":
        eagerness = wanted.get("eagerness", "auto")
        if not isinstance(eagerness, str) or eagerness not in EAGERNESS_S:
            raise UnsupportedOption(f"turn_detection.eagerness: one of {', '.join(EAGERNESS_S)}.")
        silence_s = EAGERNESS_S[eagerness]
        endpoints = EndpointOptions(silence_s=silence_s)
        shown = {"type": "semantic_vad", "eagerness": eagerness}
    else:
        shown["threshold"] = _number(wanted, "threshold", 0, 1, 0.5)
        shown["prefix_padding_ms"] = _number(wanted, "prefix_padding_ms", 0, 10_000, 300)
        shown["silence_duration_ms"] = _number(wanted, "silence_duration_ms", 100, 10_000, 500)
        endpoints = EndpointOptions(
            threshold=shown["threshold"],
            silence_s=shown["silence_duration_ms"] / 1000,
            prefix_s=shown["prefix_padding_ms"] / 1000,
        )
    options = replace(config.options, endpoints=endpoints)
    return replace(config, options=options, turn_detection=shown)


def _object(holder: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = holder.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UnsupportedOption(f"{name}: must be an object.")
    return value


def _number(holder: Mapping[str, Any], name: str, low: float, high: float, default: float) -> float:
    value = holder.get(name)
    return default if value is None else number(name, value, low, high)
