"""The configuration of /stream: what a client may send, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from app.api.intake import resolve_model
from app.api.live.values import MAX_PROMPT_CHARS, number, text, voices
from app.audio.stream import HIGHEST_RATE, LOWEST_RATE, Encoding
from app.domain.errors import UnsupportedOption
from app.domain.languages import parse_language
from app.domain.options import Task
from app.live.options import LiveOptions
from app.service.service import Service

CHUNK_S = 5.0
SHORTEST_CHUNK_S, LONGEST_CHUNK_S = 0.5, 60.0
MOST_RESUMED_S = 1e6
NO_OVERLAP = "overlap: has no effect, since no words at the edges of chunks are lost here."
UNKNOWN = "{}: there is no such option; it has no effect."
MAX_NOTES = 20


@dataclass(frozen=True, slots=True)
class StreamConfig:
    options: LiveOptions
    chunk_s: float = CHUNK_S
    events: bool = False
    resume_from_s: float = 0.0

    def shown(self) -> dict[str, Any]:
        """As the client would write it."""
        options = self.options
        return {
            "model_size": options.model,
            "language": options.language,
            "task": options.task.value,
            "encoding": options.encoding.value,
            "sample_rate": options.rate,
            "chunk_duration": self.chunk_s,
            "use_context": options.use_context,
            "diarize": options.diarize,
            "known_voices": list(options.voices),
            "events": self.events,
            "resume_from_s": self.resume_from_s,
        }


Change = Callable[[Service, StreamConfig, Any], StreamConfig]


def _option(name: str, parse: Callable[[Service, Any], Any]) -> Change:
    def change(service: Service, config: StreamConfig, value: Any) -> StreamConfig:
        return replace(config, options=replace(config.options, **{name: parse(service, value)}))

    return change


def _field(name: str, parse: Callable[[Any], Any]) -> Change:
    return lambda service, config, value: replace(config, **{name: parse(value)})


def _number(name: str, low: float, high: float) -> Callable[[Any], float]:
    return lambda value: float(number(name, value, low, high))


def _flag(name: str) -> Callable[[Any], bool]:
    def parse(value: Any) -> bool:
        if not isinstance(value, bool):
            raise UnsupportedOption(f"{name}: must be true or false.")
        return value

    return parse


def _text(name: str) -> Callable[[Service, Any], str]:
    return lambda _, value: text(name, value, MAX_PROMPT_CHARS)


def _choice(name: str, kind: Any) -> Callable[[Service, Any], Any]:
    def parse(service: Service, value: Any) -> Any:
        try:
            return kind(text(name, value).lower())
        except ValueError:
            raise UnsupportedOption(f"{name}: must be one of {', '.join(kind)}.") from None

    return parse


def _model(service: Service, value: Any) -> str:
    return resolve_model(service, text("model", value))


_rate = _number("sample_rate", LOWEST_RATE, HIGHEST_RATE)
_use_context, _diarize = _flag("use_context"), _flag("diarize")
CHANGES: dict[str, Change] = {
    "model_size": _option("model", _model),
    "model": _option("model", _model),
    "language": _option("language", lambda _, value: parse_language(text("language", value))),
    "task": _option("task", _choice("task", Task)),
    "encoding": _option("encoding", _choice("encoding", Encoding)),
    "sample_rate": _option("rate", lambda _, value: round(_rate(value))),
    "use_context": _option("use_context", lambda _, value: _use_context(value)),
    "diarize": _option("diarize", lambda _, value: _diarize(value)),
    "known_voices": _option("voices", lambda _, value: voices("known_voices", value)),
    "prompt": _option("prompt", _text("prompt")),
    "hotwords": _option("hotwords", _text("hotwords")),
    "chunk_duration": _field(
        "chunk_s", _number("chunk_duration", SHORTEST_CHUNK_S, LONGEST_CHUNK_S)
    ),
    "events": _field("events", _flag("events")),
    "resume_from_s": _field("resume_from_s", _number("resume_from_s", 0.0, MOST_RESUMED_S)),
}


def default_config(service: Service) -> StreamConfig:
    return StreamConfig(LiveOptions(model=service.catalog.default_model))


def changed(
    service: Service, config: StreamConfig, message: Mapping[str, Any]
) -> tuple[StreamConfig, list[str], list[str]]:
    """The config with what a message changes; sentences about values that are not possible, and
    about what has no effect.
    """
    wrong: list[str] = []
    ignored: list[str] = []
    for name, value in message.items():
        change = CHANGES.get(name)
        if change is None:
            ignored.append(NO_OVERLAP if name == "overlap" else UNKNOWN.format(name[:40]))
            continue
        try:
            config = change(service, config, value)
        except UnsupportedOption as error:
            wrong.append(error.message)
    return config, wrong[:MAX_NOTES], ignored[:MAX_NOTES]
