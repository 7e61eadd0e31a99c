"""Echoes: words that a recognizer says once more where the sound ends in mid-speech. Pure.

Partials end in the middle of a word, and quick hypotheses of such sound often end in the sentence
before, heard again. Nobody said it twice: both together take the time of one.
"""

from __future__ import annotations

from collections.abc import Sequence

from app.domain.transcript import SpokenWord
from app.live.agreement import key_of

LEAST_WORDS = 3  # people do say one or two words again, at any speed
FASTEST_WORD_S = 0.1  # nobody speaks ten words a second


def without_echo(words: Sequence[SpokenWord]) -> Sequence[SpokenWord]:
    """The words without a repetition at their end for which there was no time."""
    keys = [key_of(word) for word in words]
    for period in range(LEAST_WORDS, len(words)):
        repeated = _num_repeated(keys, period)
        if repeated and _is_too_fast(words[-period - repeated :]):
            return without_echo(_without_one(words, period, repeated))
    return words


def _num_repeated(keys: Sequence[str], period: int) -> int:
    """How many keys at the end are those a period before; at most the period, and 0 for too few.

    The last one may differ: of a word that is cut off, the echo makes another.
    """
    most = min(period, len(keys) - period)
    same = [keys[-i] == keys[-i - period] for i in range(1, most + 1)]
    num = next((i for i, is_same in enumerate(same) if i and not is_same), most)
    return num if sum(same[:num]) >= LEAST_WORDS else 0


def _is_too_fast(words: Sequence[SpokenWord]) -> bool:
    return _seconds(words) < FASTEST_WORD_S * len(words)


def _without_one(words: Sequence[SpokenWord], period: int, repeated: int) -> Sequence[SpokenWord]:
    """Without the echo, or without what it repeats if it is the echo that has the time."""
    said, echo = words[:-repeated], words[-repeated:]
    is_whole = repeated == period
    if is_whole and _seconds(echo) > _seconds(said[-period:]):
        return [*said[:-period], *echo]
    return said


def _seconds(words: Sequence[SpokenWord]) -> float:
    return words[-1].end_s - words[0].start_s
