"""Values in the messages of live streams, alike in all contracts."""

from __future__ import annotations

from typing import Any

from app.domain.errors import UnsupportedOption
from app.pipeline.speakers import NUMBERED

MAX_PROMPT_CHARS = 2_000
MOST_VOICES, MAX_NAME_CHARS, MAX_DIMENSIONS = 64, 100, 4_096
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


def voices(name: str, value: Any) -> dict[str, tuple[float, ...]]:
    """Embeddings of known voices by name. Raises UnsupportedOption."""
    if not isinstance(value, dict) or len(value) > MOST_VOICES:
        raise UnsupportedOption(VOICES.format(name))
    if not all(_is_name(who) and _is_embedding(vector) for who, vector in value.items()):
        raise UnsupportedOption(VOICES.format(name))
    return {who: tuple(map(float, vector)) for who, vector in value.items()}


def _is_name(name: str) -> bool:
    return 0 < len(name.strip()) <= MAX_NAME_CHARS and not NUMBERED.fullmatch(name)


def _is_embedding(vector: Any) -> bool:
    """Whether it has a direction."""
    return (
        isinstance(vector, list)
        and 0 < len(vector) <= MAX_DIMENSIONS
        and all(type(x) in (int, float) and abs(x) <= LARGEST for x in vector)
        and any(vector)
    )
