"""Endpointing: where utterances begin and end, by the probability of speech in each frame. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

FRAME_S = 0.032  # of the detector
HYSTERESIS = 0.15  # speech ends at a lower probability than it begins at
SPEECH_FRAMES = 3  # of the last four: a click is no speech
RECENT = 4
SEARCH_S = 6.0  # an utterance that becomes too long is cut at its best pause in this time
PAUSE_FRAMES = 5  # without speech are a pause
LEAST_S = 0.5  # of an utterance before a cut


@dataclass(frozen=True, slots=True)
class EndpointOptions:
    """`silence_s`: after which an utterance has ended. `prefix_s`: kept before its first speech.
    `longest_s`: of an utterance; longer speech is cut where the speaker most likely pauses.
    """

    threshold: float = 0.5
    silence_s: float = 0.5
    prefix_s: float = 0.3
    longest_s: float = 28.0

    @property
    def lead_s(self) -> float:
        """How far an utterance may begin before the moment at which it is noticed."""
        return self.prefix_s + (RECENT + 1) * FRAME_S


@dataclass(frozen=True, slots=True)
class Started:
    """An utterance began. Its sound is kept from `at_s` on, seconds of the stream."""

    at_s: float


@dataclass(frozen=True, slots=True)
class Ended:
    """The utterance has ended. `cut`: the speaker goes on, and the next one starts at once."""

    at_s: float
    cut: bool = False


Mark: TypeAlias = Started | Ended


def moved(mark: Mark, by_s: float) -> Mark:
    return replace(mark, at_s=mark.at_s + by_s)


class Endpointer:
    """Feed it one frame after the other."""

    def __init__(self, options: EndpointOptions) -> None:
        self._options = options
        self._frames = 0
        self._recent: deque[bool] = deque(maxlen=RECENT)
        self._started_s: float | None = None
        self._ended_s = 0.0
        self._last_speech_s = 0.0
        self._probabilities: deque[float] = deque(maxlen=round(SEARCH_S / FRAME_S))

    @property
    def speaking(self) -> bool:
        """Whether an utterance is open."""
        return self._started_s is not None

    @property
    def paused_at_s(self) -> float | None:
        """When it became clear that the speaker pauses. None while somebody speaks."""
        at_s = self._last_speech_s + PAUSE_FRAMES * FRAME_S
        return at_s if self.now_s >= at_s else None

    @property
    def now_s(self) -> float:
        return self._frames * FRAME_S

    def feed(self, probability: float) -> list[Mark]:
        """What the next frame tells."""
        self._frames += 1
        self._recent.append(probability >= self._options.threshold)
        self._probabilities.append(probability)
        if self._started_s is None:
            return self._look_for_start()
        if probability >= self._options.threshold - HYSTERESIS:
            self._last_speech_s = self.now_s
        silent_s = self.now_s - self._last_speech_s
        if silent_s >= self._options.silence_s:
            return [self._end(self._last_speech_s + self._options.silence_s / 2)]
        if self.now_s - self._started_s >= self._options.longest_s:
            if self.paused_at_s is not None:
                return [self._end(self._last_speech_s + silent_s / 2)]
            return self._cut(self._started_s)
        return []

    def finish(self) -> list[Mark]:
        """The stream ends, or the client says that the speaker has."""
        return [] if self._started_s is None else [self._end(self.now_s)]

    def _look_for_start(self) -> list[Mark]:
        if sum(self._recent) < SPEECH_FRAMES:
            return []
        first_s = self.now_s - RECENT * FRAME_S
        self._started_s = max(self._ended_s, first_s - self._options.prefix_s)
        self._last_speech_s = self.now_s
        return [Started(self._started_s)]

    def _end(self, at_s: float) -> Ended:
        self._started_s = None
        self._recent.clear()
        self._ended_s = min(at_s, self.now_s)
        return Ended(self._ended_s)

    def _cut(self, started_s: float) -> list[Mark]:
        """At the frame with the least speech around it."""
        since = self._frames - len(self._probabilities)  # number of the first of them
        first = max(since, round((started_s + LEAST_S) / FRAME_S))
        candidates = list(self._probabilities)[min(first - since, len(self._probabilities) - 1) :]
        at_s = (self._frames - len(candidates) + _quietest(candidates) + 0.5) * FRAME_S
        self._started_s = at_s
        return [Ended(at_s, cut=True), Started(at_s)]


def _quietest(probabilities: Sequence[float]) -> int:
    """The frame in the middle of those with the lowest mean."""
    size = min(PAUSE_FRAMES, len(probabilities))
    sums = [sum(probabilities[i : i + size]) for i in range(len(probabilities) - size + 1)]
    return min(range(len(sums)), key=sums.__getitem__) + size // 2
