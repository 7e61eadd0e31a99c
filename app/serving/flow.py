"""When a connection is read."""

from __future__ import annotations

from app.serving.uvicorn_internals import FlowControl


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
