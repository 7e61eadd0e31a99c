"""How much text there is to say, and whether that is little for the speech. Pure."""

from __future__ import annotations

import unicodedata

# Letters per second of speech. Measured on read English: 12 to 17, fewer where words were lost.
SPARSE_LETTERS_PER_S = 12.0
LEAST_MISSING_S = 0.8  # shorter speech may well be without words

LETTERS_OF_WIDE = 3.0  # a Chinese, Japanese or Korean character is a syllable
LETTERS_OF_DIGIT = 4.0


def num_letters(text: str) -> float:
    """How much text there is to say, comparable between scripts."""
    return sum(map(_letters, filter(str.isalnum, text)))


def is_sparse(text: str, speech_s: float) -> bool:
    """Whether the text is so short that words may be missing."""
    return speech_s >= LEAST_MISSING_S and num_letters(text) < SPARSE_LETTERS_PER_S * speech_s


def _letters(char: str) -> float:
    if char.isdigit():
        return LETTERS_OF_DIGIT
    return LETTERS_OF_WIDE if unicodedata.east_asian_width(char) == "W" else 1.0
