"""Values in the messages of live streams, alike in all contracts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from app.domain.errors import UnsupportedOption

MAX_PROMPT_CHARS = 2_000
MAX_NAME_CHARS = 200
MAX_KEYWORDS = 500
MAX_VALUES = 10_000  # of a message


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
