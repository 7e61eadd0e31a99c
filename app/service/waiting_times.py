"""WaitingTimes: how long requests still take, learned from those that have ended.

For what the queue shows, and for when a refused client should try again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from app.service.ticket import Ticket

SMOOTHING = 0.2  # of the running means
FIRST_GUESS_S = 10.0  # assumed duration of a request until one has ended
FIRST_PACE = 0.1  # assumed seconds of work for a second of audio, likewise
MIN_PROGRESS = 0.15  # below it, the time left cannot be estimated


class WaitingTimes:
    """Not thread-safe: its owner holds a lock."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock`: the one that `Ticket.started` was read from."""
        self._clock = clock
        self._mean_s = FIRST_GUESS_S
        self._pace = FIRST_PACE

    def learn(self, ticket: Ticket) -> None:
        """Note how long a request took."""
        if ticket.work.background:
            return
        self._mean_s += SMOOTHING * (self._clock() - ticket.started - self._mean_s)
        self.learn_pace(ticket)

    def learn_pace(self, ticket: Ticket) -> None:
        """Note how long models took for its audio."""
        if ticket.work_s and ticket.begun and not ticket.work.background:
            pace = (self._clock() - ticket.started) / ticket.work_s
            self._pace += SMOOTHING * (pace - self._pace)

    def left_s(self, ticket: Ticket) -> float | None:
        """Seconds until the request ends, by its progress; None: not known yet."""
        progress = ticket.work.progress
        if progress < MIN_PROGRESS:
            return None
        return (self._clock() - ticket.started) * (1 - progress) / progress

    def _expected_s(self, ticket: Ticket) -> float | None:
        """Seconds until the request ends, by its progress or else its audio; None: not known."""
        left_s = self.left_s(ticket)
        work_s = (ticket.source or ticket).work_s
        if left_s is None and work_s:
            elapsed_s = self._clock() - ticket.started
            left_s = max(0.0, work_s * self._pace - elapsed_s)
        return left_s

    def until_place_s(self, held: Sequence[Ticket]) -> int:
        """Seconds until one of these places may be free: the shortest estimate of the time left,
        else the mean duration divided by the number of requests."""
        told = [left for ticket in held if (left := self._expected_s(ticket)) is not None]
        shared = self._mean_s / max(1, len(held))
        return max(1, math.ceil(min(told, default=shared)))

    def until_audio_s(self, tickets: Sequence[Ticket], too_much_s: float) -> int:
        """Seconds until so much of the tickets' audio may be done."""
        wait_s = 0.0
        for left_s, work_s in sorted((self._expected_s(t) or 0.0, t.work_s) for t in tickets):
            if too_much_s <= 0:
                break
            wait_s, too_much_s = left_s, too_much_s - work_s
        return max(1, math.ceil(wait_s))
