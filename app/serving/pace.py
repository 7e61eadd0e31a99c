"""Slows down clients whose bytes cost more time than usual, so that others are served meanwhile."""

from __future__ import annotations

from app.serving.uvicorn_internals import FlowControl

SHARE = 0.2  # of the event loop's time, for all slowed connections together


class Pace:
    """One for the whole server: slowed connections take turns, however many there are."""

    def __init__(self) -> None:
        self._free_at = 0.0

    def reserve(self, now_s: float, cost_s: float) -> float:
        """When a connection that has just cost `cost_s` may go on, by the clock of `now_s`."""
        self._free_at = max(self._free_at, now_s) + cost_s / SHARE
        return self._free_at


class HeldFlow(FlowControl):
    """uvicorn's flow control with a second reason not to read: the connection is held.

    uvicorn's own reason goes away whenever the app waits for more of a body.
    """

    _held = False
    _paused_by_app = False

    def hold(self, held: bool) -> None:
        self._held = held
        self._apply()

    def pause_reading(self) -> None:
        self._paused_by_app = True
        self._apply()

    def resume_reading(self) -> None:
        self._paused_by_app = False
        self._apply()

    def _apply(self) -> None:
        if self._held or self._paused_by_app:
            super().pause_reading()
        else:
            super().resume_reading()
