"""Slows down clients whose bytes cost more time than usual, so that others are served meanwhile."""

from __future__ import annotations

SHARE = 0.2  # of the event loop's time, for all clients together that are slowed down


class Pace:
    """Shared by all whom it slows down: they take turns, however many they are."""

    def __init__(self) -> None:
        self._free_at = 0.0

    def reserve(self, now_s: float, cost_s: float) -> float:
        """When a client whose bytes have just cost `cost_s` may go on, by the clock of `now_s`."""
        self._free_at = max(self._free_at, now_s) + cost_s / SHARE
        return self._free_at

    def give_back(self, now_s: float, cost_s: float) -> None:
        """A client that has reserved is gone before its turn."""
        self._free_at = max(now_s, self._free_at - cost_s / SHARE)
