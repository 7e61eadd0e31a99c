"""The words of a segment as pieces of its text: joined, they rebuild it. Pure."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from app.domain.transcript import Segment, Word

Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class WrittenWord:
    """`text`: with the whitespace before it. `probability`: how sure the recognizer is of it, the
    mean over its tokens, or over its chunk if the recognizer tells no more; None if not known.
    """

    word: Word
    text: str
    start_s: float
    end_s: float
    probability: float | None


def written_words(segment: Segment) -> list[WrittenWord]:
    """Empty if no words are known. A word that was not aligned lies between its neighbors."""
    words = segment.words or ()
    spans = _places(segment.text, words)
    times = word_times(words, segment.start_s, segment.end_s)
    return [
        WrittenWord(
            word,
            segment.text[begin:end] if end > begin else f" {word.text}",
            *time,
            _probability(segment, begin, end),
        )
        for word, (begin, end), time in zip(words, spans, times, strict=True)
    ]


def _places(text: str, words: Sequence[Word]) -> list[tuple[int, int]]:
    """The span of each word, from the end of the one before; empty if the text does not have it.
    What follows the last word is part of it.
    """
    places, at = [], 0
    for word in words:
        written = word.text.strip()
        found = text.find(written, at)
        end = found + len(written) if found >= 0 else at
        places.append((at, end))
        at = end
    if places and places[-1][0] < places[-1][1]:
        places[-1] = (places[-1][0], len(text))
    return places


def word_times(words: Sequence[Word], start_s: float, end_s: float) -> list[Span]:
    """The times of all words between `start_s` and `end_s`. Words that have none share those
    between their neighbors.
    """
    times: list[Span] = []
    runs = [(known, list(run)) for known, run in groupby(words, key=_is_timed)]
    for i, (known, run) in enumerate(runs):
        if known:
            times += [(word.start_s or 0.0, word.end_s or 0.0) for word in run]
            continue
        before_s = times[-1][1] if times else start_s
        after_s = runs[i + 1][1][0].start_s if i + 1 < len(runs) else end_s
        times += _shares(before_s, max(before_s, after_s or 0.0), len(run))
    return times


def _is_timed(word: Word) -> bool:
    return word.start_s is not None and word.end_s is not None


def _shares(start_s: float, end_s: float, count: int) -> Iterator[Span]:
    step_s = (end_s - start_s) / count
    return ((start_s + i * step_s, start_s + (i + 1) * step_s) for i in range(count))


def _probability(segment: Segment, begin: int, end: int) -> float | None:
    """The mean over the tokens of these characters."""
    if segment.likelihoods and end > begin:
        ends = segment.token_ends
        first = bisect_right(ends, begin)
        last = min(bisect_left(ends, end), len(ends) - 1)
        own = segment.likelihoods[first : last + 1]
        if own:
            return math.fsum(own) / len(own)
    return math.exp(segment.stats.avg_logprob) if segment.stats else None
