"""Counts in this process, for the sliding windows of the library `limits`."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

from limits.storage import Storage
from limits.storage.base import SlidingWindowCounterSupport

MAX_KEYS = 200_000  # some 50 MB
SWEPT = 2  # old entries dropped for each new one


@dataclass(slots=True)
class _Windows:
    """Uses in the window with this number and in the one before it."""

    number: int
    expiry: int
    before: int = 0
    now: int = 0

    def move_to(self, number: int) -> None:
        if number > self.number:
            self.before = self.now if number == self.number + 1 else 0
            self.now, self.number = 0, number


class WindowCounters(Storage, SlidingWindowCounterSupport):
    """A storage whose every call takes the same time, however many clients there are.

    The library's own looks at all keys again and again. Any thread.
    """

    STORAGE_SCHEME = None

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._windows: OrderedDict[str, _Windows] = OrderedDict()  # the longest unused first

    def acquire_sliding_window_entry(
        self, key: str, limit: int, expiry: int, amount: int = 1
    ) -> bool:
        with self._lock:
            before, before_left_s, now, _ = self._look(key, expiry)
            if math.floor(before * before_left_s / expiry + now) + amount > limit:
                return False
            self._entry(key, expiry).now += amount
            return True

    def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        """(uses in the window before, seconds until they no longer count, uses in this one, seconds
        until those no longer count)
        """
        with self._lock:
            return self._look(key, expiry)

    def clear_sliding_window(self, key: str, expiry: int) -> None:
        self.clear(key)

    def _look(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        number, left_s = _window(expiry)
        entry = self._windows.get(key)
        if entry is None:
            return 0, 0.0, 0, left_s + expiry
        entry.move_to(number)
        return entry.before, left_s if entry.before else 0.0, entry.now, left_s + expiry

    def _entry(self, key: str, expiry: int) -> _Windows:
        entry = self._windows.get(key)
        if entry is None:
            self._sweep()
            entry = self._windows[key] = _Windows(_window(expiry)[0], expiry)
        self._windows.move_to_end(key)
        return entry

    def _sweep(self) -> None:
        for _ in range(SWEPT):
            key = next(iter(self._windows), None)
            if key is None or not (self._is_over(key) or len(self._windows) >= MAX_KEYS):
                return
            del self._windows[key]

    def _is_over(self, key: str) -> bool:
        entry = self._windows[key]
        return _window(entry.expiry)[0] > entry.number + 1

    # -- what else a storage must have ---------------------------------------------------------

    @property
    def base_exceptions(self) -> type[Exception]:
        return ValueError

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        with self._lock:
            entry = self._entry(key, expiry)
            entry.move_to(_window(expiry)[0])
            entry.now += amount
            return entry.now

    def get(self, key: str) -> int:
        entry = self._windows.get(key)
        return entry.now if entry else 0

    def get_expiry(self, key: str) -> float:
        entry = self._windows.get(key)
        return (entry.number + 2) * entry.expiry if entry else time.time()

    def check(self) -> bool:
        return True

    def reset(self) -> int:
        with self._lock:
            num_keys = len(self._windows)
            self._windows.clear()
        return num_keys

    def clear(self, key: str) -> None:
        with self._lock:
            self._windows.pop(key, None)


def _window(expiry: int) -> tuple[int, float]:
    """The number of the present window, and the seconds until its end."""
    number, gone_s = divmod(time.time(), expiry)
    return int(number), expiry - gone_s
