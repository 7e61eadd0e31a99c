"""Left context: a chunk that is in doubt, heard once more after the sound before it. Pure.

Recognizers mishear short utterances that they hear alone. With the sound before it, one is heard
better, but it may be lost as a whole, and its first word may seem to be in the pause before it. So
its text is the end of what was heard that is most like the text of the chunk alone, if about as
long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from math import log

from app.domain.transcript import Hypothesis, SpokenWord
from app.text.letters import num_letters
from app.text.segments import cut_text

MISTIMED_S = 1.6  # a word next to a pause may have times within it, or within what is before it
FEWER_LETTERS, MORE_LETTERS = 2.0, 0.2  # the latter is a share
LEAST_LIKELY = 1e-9


def better_with_context(
    alone: Hypothesis, whole: Hypothesis, context_s: float
) -> Hypothesis | None:
    """The part of `whole` that is the chunk heard `alone`, or None if it is no better.

    `whole` begins with `context_s` seconds of other sound.
    """
    words = whole.words or ()
    if "".join(word.text for word in words) != whole.text:
        return None
    begin = _first_word(words, alone.text, context_s)
    if begin is None:
        return None
    part = _from(whole, begin, context_s)
    return part if _is_as_long(part, alone) and _is_likelier(part, alone) else None


def _is_as_long(part: Hypothesis, alone: Hypothesis) -> bool:
    least = num_letters(alone.text) - FEWER_LETTERS
    most = num_letters(alone.text) * (1 + MORE_LETTERS)
    return least <= num_letters(part.text) <= most


def _is_likelier(part: Hypothesis, alone: Hypothesis) -> bool:
    return _logprob(part, alone) > _logprob(alone, part)


def _logprob(of: Hypothesis, other: Hypothesis) -> float:
    """The mean of its tokens, where both tell it."""
    if not (of.likelihoods and other.likelihoods):
        return of.stats.avg_logprob
    return sum(log(max(p, LEAST_LIKELY)) for p in of.likelihoods) / len(of.likelihoods)


def _first_word(words: Sequence[SpokenWord], alone: str, context_s: float) -> int | None:
    """The index of the first word of the chunk: where the text after it is most like `alone`. None
    if that is not clear.
    """
    middles = ((word.start_s + word.end_s) / 2 for word in words)
    last = next((i for i, middle in enumerate(middles) if middle > context_s), None)
    if last is None:
        return None
    first = last
    while first and words[first - 1].end_s > context_s - MISTIMED_S:
        first -= 1
    matcher = SequenceMatcher(None, b=_letters(alone), autojunk=False)

    def likeness(index: int) -> float:
        matcher.set_seq1(_letters("".join(word.text for word in words[index:])))
        return matcher.ratio()

    begin = max(range(last, first - 1, -1), key=likeness)
    # the length would not tell that so short a word is lost
    is_clear = begin == first or num_letters(words[begin - 1].text) > FEWER_LETTERS
    return begin if is_clear else None


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text.casefold()))


def _from(whole: Hypothesis, index: int, context_s: float) -> Hypothesis:
    """What `whole` says from a word on, in times after the context."""
    words = whole.words or ()
    begin = sum(len(word.text) for word in words[:index])
    part = cut_text(whole, begin, len(whole.text))
    return replace(part, words=tuple(_earlier(word, context_s) for word in words[index:]))


def _earlier(word: SpokenWord, by_s: float) -> SpokenWord:
    start_s, end_s = max(0.0, word.start_s - by_s), max(0.0, word.end_s - by_s)
    return replace(word, start_s=start_s, end_s=end_s)
