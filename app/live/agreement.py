"""Agreement: which words of an utterance that goes on are certain. Pure.

Words that two consecutive hypotheses share at their beginning are committed, and never change.
Source: LocalAgreement-2, Liu et al. 2020, as used by Macháček et al. 2023 for Whisper. Where the
speaker pauses, one hypothesis is enough: the next one of the same words would hear nothing new.

Where the committed words end in a new hypothesis is found by its letters: its times of the same
word may differ by some tenths of a second, and those of an aligner even more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from app.domain.transcript import SpokenWord

HOLD_S = 0.2  # a word that ends so close to the end of the sound may be half of one
COMPARED_S = 30.0  # of committed words with those of a new hypothesis
LETTERS_PER_S = 4.0  # so many wrong letters count as much as a second of difference


@dataclass(frozen=True, slots=True)
class Agreed:
    """`committed`: new ones, after those of before. `tentative`: what follows them, for now."""

    committed: tuple[SpokenWord, ...]
    tentative: tuple[SpokenWord, ...]


class Agreement:
    """The words of one utterance. Times are seconds of the stream."""

    def __init__(self, committed: Sequence[SpokenWord] = ()) -> None:
        self.committed = list(committed)
        self._last: Sequence[SpokenWord] = ()

    @property
    def committed_s(self) -> float:
        """Where the committed words end."""
        return self.committed[-1].end_s if self.committed else 0.0

    def hear(
        self, words: Sequence[SpokenWord], since_s: float, heard_s: float, in_pause: bool = False
    ) -> Agreed:
        """Take the words of the next hypothesis, for the sound from `since_s` to `heard_s`.
        `in_pause`: it ends in one, so none of them is cut off.
        """
        new = self._after_committed(words, since_s)
        same = len(new) if in_pause else self._num_agreed(new, heard_s)
        self.committed.extend(new[:same])
        self._last = new[same:]
        return Agreed(tuple(new[:same]), tuple(self._last))

    def _num_agreed(self, new: Sequence[SpokenWord], heard_s: float) -> int:
        same = _common(self._last, new)
        while same and new[same - 1].end_s > heard_s - HOLD_S:
            same -= 1
        return same

    def cut(self, at_s: float) -> list[SpokenWord]:
        """Take the committed words away that were said after a time, and return them."""
        middles = [(word.start_s + word.end_s) / 2 for word in self.committed]
        kept = next((i for i, middle in enumerate(middles) if middle >= at_s), len(middles))
        later, self.committed = self.committed[kept:], self.committed[:kept]
        return later

    def remaining(self, words: Sequence[SpokenWord]) -> tuple[SpokenWord, ...]:
        """The words of the final hypothesis that are not committed yet."""
        return tuple(self._after_committed(words, 0.0))

    def _after_committed(self, words: Sequence[SpokenWord], since_s: float) -> list[SpokenWord]:
        committed = [word for word in self.committed if word.end_s > since_s]
        new = words[_num_repeated(committed, words) :] if committed else words
        return [_not_before(word, self.committed_s) for word in new]


def key_of(word: SpokenWord) -> str:
    """What two hypotheses must share: capitals and punctuation change as the sentence grows."""
    return "".join(filter(str.isalnum, word.text.casefold())) or word.text.strip()


def _common(last: Sequence[SpokenWord], new: Sequence[SpokenWord]) -> int:
    """How many words both begin with."""
    for i, (a, b) in enumerate(zip(last, new, strict=False)):
        if key_of(a) != key_of(b):
            return i
    return min(len(last), len(new))


def _num_repeated(committed: Sequence[SpokenWord], new: Sequence[SpokenWord]) -> int:
    """How many words `new` begins with that are the committed ones, perhaps heard differently.

    Only the last of them are compared: the effort grows with the square of their number.
    """
    since_s = committed[-1].end_s - COMPARED_S
    old = sum(word.end_s <= since_s for word in new)
    recent = [word for word in committed if word.end_s > since_s]
    return old + _num_same(recent, new[old:])


def _num_same(committed: Sequence[SpokenWord], new: Sequence[SpokenWord]) -> int:
    before, text, ends = "".join(map(key_of, committed)), "", [0]
    for word in new:
        text += key_of(word)
        ends.append(len(text))
    wrong = _distances(before, text)
    until_s = committed[-1].end_s
    times = [committed[0].start_s, *(word.end_s for word in new)]

    def cost(num: int) -> float:
        return wrong[ends[num]] / LETTERS_PER_S + abs(times[num] - until_s)

    return min(range(len(ends)), key=cost)


def _distances(before: str, text: str) -> list[int]:
    """The edit distance of `before` to each beginning of `text`."""
    differing = (i for i, (a, b) in enumerate(zip(before, text, strict=False)) if a != b)
    same = next(differing, min(len(before), len(text)))
    before, rest = before[same:], text[same:]
    row = list(range(len(rest) + 1))
    for i, letter in enumerate(before, 1):
        above, row = row, [i]
        for j, other in enumerate(rest):
            row.append(min(above[j] + (letter != other), above[j + 1] + 1, row[j] + 1))
    return [*(same - k + len(before) for k in range(same)), *row]


def _not_before(word: SpokenWord, at_s: float) -> SpokenWord:
    """The word, later if need be: the committed ones keep their times."""
    if word.start_s >= at_s:
        return word
    return replace(word, start_s=at_s, end_s=max(at_s, word.end_s))


def shifted(words: Sequence[SpokenWord], by_s: float) -> tuple[SpokenWord, ...]:
    """The words with times of the stream instead of the chunk."""
    return tuple(
        replace(word, start_s=word.start_s + by_s, end_s=word.end_s + by_s) for word in words
    )
