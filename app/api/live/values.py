"""Values in the messages of live streams, alike in all contracts."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Sequence
from typing import Any

from app.domain.errors import UnsupportedOption
from app.pipeline.speakers import NUMBERED

MAX_PROMPT_CHARS = 2_000
MAX_NAME_CHARS, MAX_KEYWORDS = 200, 500
DECODED_CHARS = 64 << 10  # at once; a multiple of 4
NO_SOUND = "audio: base64-encoded sound is needed."
MAX_VALUES = 20_000  # of a message
MOST_VOICES, MAX_DIMENSIONS = 64, 4_096
LARGEST = 1e6  # of an embedding; not infinite, and no NaN
VOICES = (
    f"{{}}: must be an object of up to {MOST_VOICES} names, each with the numbers of its "
    "`speaker_embeddings` in an answer of /asr. Names like SPEAKER_00 are not allowed."
)


def number(name: str, value: Any, low: float, high: float) -> float:
    """A number of a message as it is. Raises UnsupportedOption."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise UnsupportedOption(f"{name}: must be a number from {low:g} to {high:g}.")
    return value


def text(name: str, value: Any, most: int = MAX_NAME_CHARS) -> str:
    """A text of a message; empty for null. Raises UnsupportedOption."""
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > most or not is_whole(value):
        raise UnsupportedOption(f"{name}: must be a text of {most} letters at most.")
    return value


def texts(name: str, value: Any) -> Sequence[str]:
    """A list of texts; empty for null. Raises UnsupportedOption."""
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > MAX_KEYWORDS:
        raise UnsupportedOption(f"{name}: must be a list of {MAX_KEYWORDS} texts at most.")
    return [text(name, item) for item in value]


def is_whole(value: str) -> bool:
    """Without halves of surrogate pairs, which JSON can have and UTF-8 cannot."""
    return value.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in value)


def parsed(message: str) -> Any:
    """The JSON of a message with few values: it may have one long text of sound.

    Raises:
        ValueError: it is not JSON, or nested too deeply.
        UnsupportedOption: too many values.
    """
    if sum(map(message.count, "[{,")) > MAX_VALUES:
        raise UnsupportedOption(f"The message is too large: it has more than {MAX_VALUES} values.")
    try:
        return json.loads(message)
    except RecursionError:
        raise ValueError from None


def voices(name: str, value: Any) -> dict[str, tuple[float, ...]]:
    """Embeddings of known voices by name. Raises UnsupportedOption."""
    if not isinstance(value, dict) or len(value) > MOST_VOICES:
        raise UnsupportedOption(VOICES.format(name))
    if not all(_is_name(who) and _is_embedding(vector) for who, vector in value.items()):
        raise UnsupportedOption(VOICES.format(name))
    return {who: tuple(map(float, vector)) for who, vector in value.items()}


def _is_name(name: str) -> bool:
    usual = 0 < len(name.strip()) <= MAX_NAME_CHARS and is_whole(name)
    return usual and not NUMBERED.fullmatch(name)


def _is_embedding(vector: Any) -> bool:
    """Whether it has a direction."""
    return (
        isinstance(vector, list)
        and 0 < len(vector) <= MAX_DIMENSIONS
        and all(type(x) in (int, float) and abs(x) <= LARGEST for x in vector)
        and any(vector)
    )


async def decoded(audio: object) -> bytes:
    """Bit by bit: it may be minutes of sound. Raises UnsupportedOption."""
    if not isinstance(audio, str) or "=" in audio[:-2]:
        raise UnsupportedOption(NO_SOUND)
    pieces = []
    for at in range(0, len(audio), DECODED_CHARS):
        try:
            pieces.append(base64.b64decode(audio[at : at + DECODED_CHARS], validate=True))
        except ValueError:  # also of what is not ASCII
            raise UnsupportedOption(NO_SOUND) from None
        await asyncio.sleep(0)
    return b"".join(pieces)
