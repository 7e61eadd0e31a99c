"""For which share of the last minute something was done. Pure but for its clock."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

MEMORY_S = 60.0  # what is longer ago than that counts for a third


class BusyShare:
    """Any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._since_s = clock()
        self._share = 0.0
        self._num_running = 0

    @contextmanager
    def working(self) -> Iterator[None]:
        self._change(1)
        try:
            yield
        finally:
            self._change(-1)

    def share(self) -> float:
        """0 to 1, the last moments counting most."""
        self._change(0)
        return self._share

    def _change(self, more: int) -> None:
        with self._lock:
            now_s = self._clock()
            self._share = moved(self._share, self._num_running > 0, now_s - self._since_s)
            self._since_s = now_s
            self._num_running += more


def moved(share: float, towards: float, seconds: float) -> float:
    """The share after so long with another one."""
    return towards + (share - towards) * math.exp(-seconds / MEMORY_S)
