"""When the sound of a stream arrived: how late its words are told."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque

from app.live.events import Final, LiveEvent, Partial

KEPT = 4_096  # pieces


class Arrivals:
    """In the session's thread only."""

    def __init__(self) -> None:
        self._pieces: deque[tuple[float, float]] = deque(maxlen=KEPT)

    def note(self, end_s: float, at: float) -> None:
        """The stream's sound until `end_s` was there at the time `at`."""
        self._pieces.append((end_s, at))

    def of(self, stream_s: float) -> float | None:
        """When this moment of the stream arrived; None if that is long ago, or still to come."""
        pieces = list(self._pieces)
        index = bisect_left(pieces, (stream_s, 0.0))
        if index == len(pieces) or (index == 0 and len(pieces) == KEPT):
            return None
        return pieces[index][1]

    def delays(self, event: LiveEvent, now: float) -> list[float]:
        """How long ago the ends of the words arrived that an event tells."""
        arrived = [at for end_s in _ends(event) if (at := self.of(end_s)) is not None]
        return [now - at for at in arrived]


def _ends(event: LiveEvent) -> list[float]:
    match event:
        case Partial():
            return [word.end_s for word in event.committed]
        case Final():
            words = [w for segment in event.transcript.segments for w in segment.words or ()]
            return [word.end_s for word in words if word.end_s is not None]
    return []
