"""How much text there is to say. Pure."""

from __future__ import annotations

import unicodedata

LETTERS_OF_WIDE = 3.0  # a Chinese, Japanese or Korean character is a syllable
LETTERS_OF_DIGIT = 4.0


def num_letters(text: str) -> float:
    """How much text there is to say, comparable between scripts."""
    return sum(map(_letters, filter(str.isalnum, text)))


def _letters(char: str) -> float:
    if char.isdigit():
        return LETTERS_OF_DIGIT
    return LETTERS_OF_WIDE if unicodedata.east_asian_width(char) == "W" else 1.0
