"""Agreement: which words of an utterance that goes on are certain. Pure.

Words that two consecutive hypotheses share at their beginning are committed, and never change.
Source: LocalAgreement-2, Liu et al. 2020, as used by Macháček et al. 2023 for Whisper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from app.domain.transcript import SpokenWord

OVERLAP_S = 0.1  # a word may begin so much before the end of the last committed one
LONGEST_REPEAT = 5  # words that a hypothesis may say again at its beginning


@dataclass(frozen=True, slots=True)
class Agreed:
    """`committed`: new ones, after those of before. `tentative`: what follows them, for now."""

    committed: tuple[SpokenWord, ...]
    tentative: tuple[SpokenWord, ...]


class Agreement:
    """The words of one utterance. Times are seconds of the stream."""

    def __init__(self) -> None:
        self.committed: list[SpokenWord] = []
        self._last: Sequence[SpokenWord] = ()

    @property
    def committed_s(self) -> float:
        """Where the committed words end."""
        return self.committed[-1].end_s if self.committed else 0.0

    def hear(self, words: Sequence[SpokenWord]) -> Agreed:
        """Take the words of the next hypothesis."""
        new = self._without_committed(words)
        same = _common(self._last, new)
        self.committed.extend(new[:same])
        self._last = new[same:]
        return Agreed(tuple(new[:same]), tuple(self._last))

    def remaining(self, words: Sequence[SpokenWord]) -> tuple[SpokenWord, ...]:
        """The words of the final hypothesis that are not committed yet."""
        return tuple(self._without_committed(words))

    def _without_committed(self, words: Sequence[SpokenWord]) -> list[SpokenWord]:
        if not self.committed:
            return list(words)
        later = [word for word in words if word.end_s > self.committed_s + OVERLAP_S / 2]
        later = [word for word in later if word.start_s > self.committed_s - OVERLAP_S]
        return later[_repeated(self.committed, later) :]


def _key(word: SpokenWord) -> str:
    """What two hypotheses must share: capitals and punctuation change as the sentence grows."""
    return "".join(filter(str.isalnum, word.text.casefold())) or word.text.strip()


def _common(last: Sequence[SpokenWord], new: Sequence[SpokenWord]) -> int:
    """How many words both begin with."""
    for i, (a, b) in enumerate(zip(last, new, strict=False)):
        if _key(a) != _key(b):
            return i
    return min(len(last), len(new))


def _repeated(committed: Sequence[SpokenWord], new: Sequence[SpokenWord]) -> int:
    """How many words `new` begins with that the committed ones end with."""
    before, after = [_key(w) for w in committed[-LONGEST_REPEAT:]], [_key(w) for w in new]
    for num in range(min(len(before), len(after)), 0, -1):
        if before[-num:] == after[:num] and _adjoins(committed[-1], new[num - 1]):
            return num
    return 0


def _adjoins(committed: SpokenWord, repeated: SpokenWord) -> bool:
    """Whether it is the same utterance of the word, not the speaker who says it again."""
    return repeated.start_s < committed.end_s + OVERLAP_S


def shifted(words: Sequence[SpokenWord], by_s: float) -> tuple[SpokenWord, ...]:
    """The words with times of the stream instead of the chunk."""
    return tuple(
        replace(word, start_s=word.start_s + by_s, end_s=word.end_s + by_s) for word in words
    )
