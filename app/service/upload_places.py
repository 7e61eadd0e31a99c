"""Places for uploads. When all are taken, a newcomer gets the place of a client with more than its
share, or of one that sends next to nothing.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from app.domain.errors import Overloaded, ServiceError, UploadStalled
from app.service.pace import Pace
from app.service.shares import who_gives_way

RETRY_S = 5
GAVE_WAY = "Other clients need the place; try again later."


class Guest(Protocol):
    """Who uploads. `account`: whose share it takes."""

    @property
    def account(self) -> str: ...

    def give_way(self, reason: ServiceError) -> None: ...


class UploadPlace:
    """The place of one upload."""

    begun = False  # no model has worked for it, see Holder

    def __init__(self, guest: Guest, clock: Callable[[], float], window_s: float) -> None:
        self.guest = guest
        self.account = guest.account
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
    """`pace` is for uploads that take much time to parse.

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
        self._lock = threading.Lock()
        self._places: list[UploadPlace] = []

    @contextmanager
    def enter(self, guest: Guest) -> Iterator[UploadPlace]:
        """Receive an upload until the block ends. Who loses its place is told to give way.

        Raises:
            Overloaded: too many other uploads are running, and none of them has to make room.
        """
        place = UploadPlace(guest, self._clock, self._window_s)
        with self._lock:
            if len(self._places) >= self._max_uploads:
                self._make_room(guest.account)
            self._places.append(place)
        try:
            yield place
        finally:
            with self._lock:
                if place in self._places:
                    self._places.remove(place)

    def _make_room(self, account: str) -> None:
        slowest = min(self._places, key=lambda place: place.rate)
        reason: ServiceError
        if slowest.rate < self._min_bytes_per_s:
            gone, reason = slowest, self._too_slow()
        elif greedy := who_gives_way(self._places, account, self._max_uploads):
            gone, reason = greedy, Overloaded(GAVE_WAY, RETRY_S)
        else:
            raise Overloaded("Too many uploads are under way; try again later.", RETRY_S)
        self._places.remove(gone)
        gone.guest.give_way(reason)

    def _too_slow(self) -> UploadStalled:
        return UploadStalled(
            f"The upload was slower than {self._min_bytes_per_s} bytes per second while others "
            "waited for its place."
        )
