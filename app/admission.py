"""How much work is let in at a time, and when to come back."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.errors import Overloaded, ShuttingDown

SMOOTHING = 0.2  # of the running mean of how long a request takes
FIRST_GUESS_S = 10.0


class Admission:
    """Counts requests from the first byte of their upload to the end of their answer."""

    def __init__(self, max_requests: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_requests = max_requests
        self._clock = clock
        self._lock = threading.Lock()
        self._num_requests = 0
        self._mean_s = FIRST_GUESS_S
        self._closed = False

    @property
    def num_requests(self) -> int:
        return self._num_requests

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Take a place until the block ends.

        Raises:
            Overloaded: there is none; says when one may be free.
            ShuttingDown: nobody is let in any more.
        """
        with self._lock:
            if self._closed:
                raise ShuttingDown("The service is shutting down.", retry_after_s=5)
            if self._num_requests >= self._max_requests:
                # places come free one by one, each after its share of the mean
                wait_s = max(1, math.ceil(self._mean_s / self._num_requests))
                raise Overloaded("The queue is full; try again later.", retry_after_s=wait_s)
            self._num_requests += 1
        started = self._clock()
        try:
            yield
        finally:
            with self._lock:
                self._num_requests -= 1
                self._mean_s += SMOOTHING * (self._clock() - started - self._mean_s)

    def close(self) -> None:
        with self._lock:
            self._closed = True
