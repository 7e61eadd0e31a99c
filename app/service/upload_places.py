"""Places for uploads: a client that sends next to nothing loses its place to one that waits."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.domain.errors import Overloaded
from app.service.pace import Pace

RETRY_S = 5


class UploadPlace:
    """The place of one upload. `end` is called if the place goes to another one."""

    def __init__(
        self, end: Callable[[], None], clock: Callable[[], float], window_s: float
    ) -> None:
        self.end = end
        self._clock = clock
        self._window_s = window_s
        self._since = clock()
        self._num_bytes = 0
        self._last_rate = math.inf  # nobody is slow before the first window is over

    def observe(self, num_bytes: int) -> None:
        if self._elapsed_s >= self._window_s:
            self._last_rate = self.rate
            self._since, self._num_bytes = self._clock(), 0
        self._num_bytes += num_bytes

    @property
    def rate(self) -> float:
        """Bytes per second in the current window, or in the last one until this one is over."""
        elapsed_s = self._elapsed_s
        return self._num_bytes / elapsed_s if elapsed_s >= self._window_s else self._last_rate

    @property
    def _elapsed_s(self) -> float:
        return self._clock() - self._since


class UploadPlaces:
    """Event loop only. `pace` is for uploads that take much time to parse.

    `min_bytes_per_s`: an upload that was slower over `window_s` loses its place when all are taken.
    """

    def __init__(
        self,
        max_uploads: float = math.inf,
        min_bytes_per_s: float = 0,
        window_s: float = 5,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.pace = Pace()
        self._max_uploads = max_uploads
        self._min_bytes_per_s = max(1, min_bytes_per_s)
        self._window_s = window_s
        self._clock = clock
        self._places: set[UploadPlace] = set()

    @contextmanager
    def enter(self, end: Callable[[], None]) -> Iterator[UploadPlace]:
        """Receive an upload until the block ends.

        Raises:
            Overloaded: too many other uploads are running, and none of them is slow.
        """
        if len(self._places) >= self._max_uploads:
            self._make_room()
        place = UploadPlace(end, self._clock, self._window_s)
        self._places.add(place)
        try:
            yield place
        finally:
            self._places.discard(place)

    def _make_room(self) -> None:
        slowest = min(self._places, key=lambda place: place.rate)
        if slowest.rate >= self._min_bytes_per_s:
            raise Overloaded("Too many uploads are under way; try again later.", RETRY_S)
        self._places.discard(slowest)
        slowest.end()
