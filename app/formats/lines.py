"""Finds line breaks in text and measures its width. Pure.

ICU applies Unicode's rules: no line begins with "。" or "?", words stay whole, Thai, Lao, Khmer and
Burmese break between words and Japanese between phrases.

Source: https://www.unicode.org/reports/tr14/
"""

from __future__ import annotations

import re
from itertools import pairwise
from unicodedata import east_asian_width

from icu4py.breakers import LineBreaker

SPACES = re.compile(r"\s+")
BREAKS = re.compile(r"[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]+")


def one_line(text: str) -> str:
    return BREAKS.sub(" ", text).strip()


def display_width(text: str) -> int:
    """The width in columns. A Chinese, Japanese or Korean character takes two."""
    return sum(2 if east_asian_width(char) in "WF" else 1 for char in text)


def line_starts(text: str, language: str) -> set[int]:
    """The indices of characters at which a line may begin."""
    return _starts(text, f"{language}@lw=phrase")


def smallest_parts(text: str, language: str) -> list[tuple[int, int]]:
    """The spans of text that no line splits, even the narrowest, without the whitespace between."""
    starts = line_starts(text, language) | _starts(text, language)
    starts |= {match.end() for match in SPACES.finditer(text)}
    bounds = sorted(starts | {0, len(text)})
    spans = []
    for begin, end in pairwise(bounds):
        part = text[begin:end]
        first, last = len(part) - len(part.lstrip()), len(part.rstrip())
        if first < last:
            spans.append((begin + first, begin + last))
    return spans


def _starts(text: str, locale: str) -> set[int]:
    starts, at = set(), 0
    for part in LineBreaker(text, locale):  # its own spans count UTF-16 units
        at += len(part)
        starts.add(at)
    return starts
