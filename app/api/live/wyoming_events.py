"""Wyoming's events: read within limits, and what is in them checked. They come from anybody."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from wyoming.event import Event
from wyoming.info import AsrModel, AsrProgram, Attribution, Info

from app import __version__
from app.api.intake import resolve_model
from app.api.live.values import MAX_PROMPT_CHARS
from app.audio.stream import HIGHEST_RATE, LOWEST_RATE, Encoding
from app.domain.errors import MalformedRequest, UnsupportedOption
from app.domain.languages import LANGUAGES, parse_language
from app.live.endpointing import EndpointOptions
from app.live.live import Live
from app.live.options import LiveOptions

MAX_LINE_BYTES = 64 << 10
MAX_DATA_BYTES = 256 << 10
MAX_PAYLOAD_BYTES = 4 << 20
MAX_CHANNELS = 8
SAMPLE_BYTES = 2
OURS = Attribution("whisperx-asr-service", "https://github.com/m-bain/whisperX")


async def read_event(reader: asyncio.StreamReader) -> Event | None:
    """The next event; None at the end. Unlike the package's own, it has limits.

    Raises:
        MalformedRequest: too large, or not an event.
    """
    try:
        line = await reader.readline()
        if not line:
            return None
        head = json.loads(line)
        data = dict(head.get("data") or {})
        if size := _size(head, "data_length", MAX_DATA_BYTES):
            data.update(json.loads(await reader.readexactly(size)))
        payload = None
        if size := _size(head, "payload_length", MAX_PAYLOAD_BYTES):
            payload = await reader.readexactly(size)
        json.dumps(data, ensure_ascii=False).encode()  # half a character could not be sent back
        return Event(type=str(head["type"]), data=data, payload=payload)
    except asyncio.IncompleteReadError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise MalformedRequest("This is no Wyoming event.") from None


def _size(head: Mapping[str, Any], name: str, limit: int) -> int:
    size = head.get(name) or 0
    if not isinstance(size, int) or not 0 <= size <= limit:
        raise ValueError
    return size


@dataclass(frozen=True, slots=True)
class Format:
    """Of signed 16-bit samples, interleaved by channel. `rate`: in Hz."""

    rate: int
    channels: int

    @property
    def frame_bytes(self) -> int:
        return SAMPLE_BYTES * self.channels

    @classmethod
    def of(cls, event: Event) -> Format:
        """Of `audio-start` and `audio-chunk`. Raises UnsupportedOption."""
        _whole(event, "width", SAMPLE_BYTES, SAMPLE_BYTES)
        rate = _whole(event, "rate", LOWEST_RATE, HIGHEST_RATE)
        return cls(rate, _whole(event, "channels", 1, MAX_CHANNELS))


def _whole(event: Event, name: str, low: int, high: int) -> int:
    value = event.data.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        allowed = str(low) if low == high else f"a whole number from {low} to {high}"
        raise UnsupportedOption(f"{event.type}: {name} must be {allowed}.")
    return value


def options_of(live: Live, wanted: Mapping[str, Any], sound: Format) -> LiveOptions:
    """`wanted`: the data of `transcribe`. Raises UnsupportedOption."""
    words = (*_texts(wanted, "transcript_names"), *_texts(wanted, "transcript_terms"))
    return LiveOptions(
        model=resolve_model(live.service, _text(wanted, "name")),
        encoding=Encoding.S16,
        rate=sound.rate,
        language=parse_language(_text(wanted, "language")),
        hotwords=", ".join(words)[:MAX_PROMPT_CHARS],
        use_context=False,
        endpoints=EndpointOptions(),
    )


def _text(wanted: Mapping[str, Any], name: str) -> str:
    value = wanted.get(name)
    if value is not None and not isinstance(value, str):
        raise UnsupportedOption(f"transcribe: {name} must be a text.")
    return value or ""


def _texts(wanted: Mapping[str, Any], name: str) -> list[str]:
    value = wanted.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise UnsupportedOption(f"transcribe: {name} must be a list of texts.")
    return value


class Mixer:
    """The mean of all channels, of sound in pieces of any size."""

    def __init__(self, sound: Format) -> None:
        self._sound = sound
        self._rest = b""  # of a sample that is not complete

    def mono(self, data: bytes) -> bytes:
        if self._sound.channels == 1:
            return data
        data = self._rest + data
        whole = len(data) - len(data) % self._sound.frame_bytes
        self._rest = data[whole:]
        samples = np.frombuffer(data[:whole], "<i2").reshape(-1, self._sound.channels)
        mixed: bytes = samples.mean(axis=1).astype("<i2").tobytes()
        return mixed


def describe(live: Live) -> Info:
    """What this service can do."""
    catalog = live.service.catalog
    languages = sorted(LANGUAGES)
    models = [
        AsrModel(
            name=name, attribution=OURS, installed=True, description=name, version=None,
            languages=languages,
        )
        for name in sorted(catalog.names, key=lambda name: name != catalog.default_model)
    ]  # fmt: skip
    program = AsrProgram(
        name="whisperx-asr", attribution=OURS, installed=True, description="WhisperX",
        version=__version__, models=models, supports_transcript_streaming=True,
    )  # fmt: skip
    return Info(asr=[program])
