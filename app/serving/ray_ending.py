"""How the service ends on a cluster of its own: running requests first."""

from __future__ import annotations

import logging
import signal
import threading
import time
from types import FrameType

from app.serving.ray_line import Handle, asked_all

log = logging.getLogger(__name__)

ASK_S = 10.0
POLL_S = 0.5
ANSWER_S = 2.0  # for the last answers to leave the proxies
SILENCE_S = 60.0  # after which fronts that do not answer have nothing to finish


class Stopped(KeyboardInterrupt):
    """A signal has come while the service was starting. No library may take it for an error."""


class Signals:
    """SIGTERM and SIGINT: the first one ends the service, another one does not wait."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self.hurried = threading.Event()
        self._starting = True

    def handle(self) -> None:
        for sig in (signal.SIGTERM, signal.SIGINT):
            signal.signal(sig, self._take)

    def started(self) -> None:
        """From here on `stopping` tells; before, a signal raises Stopped."""
        self._starting = False

    def _take(self, _sig: int, _frame: FrameType | None) -> None:
        if self._starting:
            self._starting = False  # no other one shall disturb the end
            raise Stopped
        (self.hurried if self.stopping.is_set() else self.stopping).set()


def drain(fronts: Handle, most_s: float, hurried: threading.Event) -> None:
    """Have the fronts refuse new requests, and wait until they have none, `most_s` at most."""
    until, heard = time.monotonic() + most_s, time.monotonic()
    while (now := time.monotonic()) < until and now < heard + SILENCE_S:
        # Again and again: a front that has just been replaced does not know it.
        running: list[int] = asked_all(fronts, "drain", ASK_S)
        if running:
            heard = now
        if running and not any(running):
            hurried.wait(ANSWER_S)
            return
        if hurried.wait(POLL_S):
            return
    log.warning("requests are still running, and are cut off")
