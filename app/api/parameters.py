"""Merges query and form into one set of parameters and reads their values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

from app.domain.errors import UnsupportedOption

T = TypeVar("T")
D = TypeVar("D")

TRUE = frozenset({"true", "1", "yes", "on", "t", "y"})
FALSE = frozenset({"false", "0", "no", "off", "f", "n"})
MAX_SPEAKERS = 100


def merge_parameters(
    fields: Mapping[str, Sequence[str]], query: Mapping[str, str]
) -> dict[str, str]:
    """Query and form in one: the query wins, the last of repeated form fields counts, and empty
    values are dropped.
    """
    merged = {}
    for name, value in (*((name, values[-1]) for name, values in fields.items()), *query.items()):
        if text := value.replace("\x00", "").strip():
            merged[name] = text
    return merged


class Reader:
    """Reads typed values from merged parameters."""

    def __init__(self, parameters: Mapping[str, str]) -> None:
        self._parameters = parameters
        self._read: set[str] = set()

    def ignored(self, *besides: str) -> tuple[str, ...]:
        """The names of parameters that nobody has read, except those `besides`."""
        return tuple(sorted(self._parameters.keys() - self._read - set(besides)))

    def ignore(self, *names: str) -> None:
        """Count parameters as ignored that have been read."""
        self._read -= set(names)

    def text(self, name: str) -> str:
        self._read.add(name)
        return self._parameters.get(name, "")

    def flag(self, name: str, default: bool) -> bool:
        value = self.text(name).lower()
        if value and value not in TRUE | FALSE:
            raise not_allowed(name, value, "true, false, 1, 0, yes or no")
        return value in TRUE if value else default

    def number(self, name: str, least: float, most: float, default: float) -> float:
        value = self.text(name)
        try:
            number = float(value) if value else default
        except ValueError:
            number = math.nan
        if not least <= number <= most:
            raise not_allowed(name, value, f"a number from {least:g} to {most:g}")
        return number

    def choice(self, name: str, choices: Mapping[str, T], default: D) -> T | D:
        value = self.text(name).lower()
        if value and value not in choices:
            raise not_allowed(name, value, f"one of {', '.join(choices)}")
        return choices[value] if value else default

    def count(self, name: str, most: int = MAX_SPEAKERS) -> int | None:
        """A number from 1 to `most`; None if there is none."""
        value = self.text(name)
        if not value:
            return None
        # length first: int() raises its own error for thousands of digits
        is_number = value.isascii() and value.isdigit() and len(value) < 10
        if not (is_number and 1 <= int(value) <= most):
            raise not_allowed(name, value, f"a whole number from 1 to {most}")
        return int(value)


def not_allowed(name: str, value: str, allowed: str) -> UnsupportedOption:
    return UnsupportedOption(f"{name}: {value[:40]!r} is not allowed; it must be {allowed}.")
