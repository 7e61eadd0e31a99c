"""The language of a recording: its chunks vote, weighted by their seconds of speech. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from app.domain.transcript import Chunk, LanguageGuess

MAX_SPREAD_CHUNKS = 5  # of a recording whose speech is known
NUM_PROBES = 3  # of a longer one, at first
MAX_PROBES = 7
PROBE_S = 30.0
CLEAR_SHARE = 0.75  # of the votes
CLEAR_SPEECH_S = 10.0
LEAST_SPEECH_S = 0.1  # the weight of a chunk without speech

# The score of a language is the logarithm of its probability times the seconds of speech. A change
# of language must gain this much, so that a word or two do not change it.
CHANGE_COST = 10.0
LEAST_PROBABILITY = 1e-3
MOST_SPEECH_S = 10.0  # of one chunk: longer speech tells no more about the language


class LanguageVote:
    """Weighted by speech, so a "hm" of half a second does not outvote a minute."""

    def __init__(self, candidates: Sequence[str] = ()) -> None:
        """`candidates`: the possible languages; empty for all."""
        self._candidates = frozenset(candidates)
        self._votes: defaultdict[str, float] = defaultdict(float)
        self._speech_s = 0.0

    def add(self, guesses: Sequence[LanguageGuess], speech_s: float) -> None:
        weight = max(speech_s, LEAST_SPEECH_S)
        self._speech_s += weight
        for guess in guesses:
            if not self._candidates or guess.language in self._candidates:
                self._votes[guess.language] += weight * guess.probability

    @property
    def best(self) -> LanguageGuess:
        """The winner, with its mean probability over all speech."""
        language = max(self._votes, key=lambda code: self._votes[code])
        return LanguageGuess(language, min(1.0, self._votes[language] / self._speech_s))

    @property
    def is_clear(self) -> bool:
        won = self._votes[self.best.language]
        share = won / max(sum(self._votes.values()), 1e-9)
        return self._speech_s >= CLEAR_SPEECH_S and share >= CLEAR_SHARE


def spread(chunks: Sequence[Chunk], num: int = MAX_SPREAD_CHUNKS) -> list[int]:
    """The positions of at most `num` chunks: evenly spread, and the longest."""
    if len(chunks) <= num:
        return list(range(len(chunks)))
    longest = max(range(len(chunks)), key=lambda i: chunks[i].speech_s)
    step = (len(chunks) - 1) / (num - 2)
    return sorted({longest, *(round(i * step) for i in range(num - 1))})


def probe_starts(duration_s: float) -> list[float]:
    """Where to sample a long recording: its middle first, then ever closer together."""
    shares = [1 / 2, 1 / 6, 5 / 6, 1 / 3, 2 / 3, 1 / 12, 11 / 12][:MAX_PROBES]
    return [share * (duration_s - PROBE_S) for share in shares]


def follow_languages(
    chunks: Sequence[Chunk], guesses: Sequence[Sequence[LanguageGuess]]
) -> list[str]:
    """The language of each chunk of a recording with several: the most likely sequence (Viterbi).

    A short chunk gets the language of its neighbors. `guesses`: for each chunk, most likely first.
    """
    languages = sorted({found[0].language for found in guesses})
    best = dict.fromkeys(languages, 0.0)
    came_from: list[dict[str, str]] = []
    for chunk, found in zip(chunks, guesses, strict=True):
        probability = {guess.language: guess.probability for guess in found}
        before = max(best, key=lambda code: best[code])
        origin = {
            code: code if best[code] >= best[before] - CHANGE_COST else before for code in languages
        }
        weight = min(max(chunk.speech_s, LEAST_SPEECH_S), MOST_SPEECH_S)
        best = {
            code: best[origin[code]]
            - CHANGE_COST * (origin[code] != code)
            + weight * math.log(max(probability.get(code, 0.0), LEAST_PROBABILITY))
            for code in languages
        }
        came_from.append(origin)
    path = [max(best, key=lambda code: best[code])]
    for origin in reversed(came_from[1:]):
        path.append(origin[path[-1]])
    return path[::-1]
