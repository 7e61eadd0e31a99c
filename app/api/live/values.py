"""Values in the messages of live streams, alike in all contracts."""

from __future__ import annotations

from typing import Any

from app.domain.errors import UnsupportedOption

MAX_PROMPT_CHARS = 2_000


def number(name: str, value: Any, low: float, high: float) -> float:
    """A number of a message as it is. Raises UnsupportedOption."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise UnsupportedOption(f"{name}: must be a number from {low:g} to {high:g}.")
    return value
