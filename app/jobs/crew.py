"""Crew: how many jobs a process works on at a time, whoever says that there is work."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)


class Crew:
    """Places for jobs. `work_on_next`: works on the job whose turn it is; false if none waits.

    A place passes from job to job as long as there are any.
    """

    def __init__(self, num_places: int, work_on_next: Callable[[], bool]) -> None:
        self._work_on_next = work_on_next
        self._lock = threading.Lock()
        self._num_places = self._free = num_places
        self._called = False
        self._closed = False

    @property
    def is_idle(self) -> bool:
        with self._lock:
            return self._free == self._num_places

    def call(self) -> None:
        """Have somebody look for work. Returns at once, and raises nothing."""
        if not self._takes_place():
            return
        serving = threading.Thread(target=self._serve, name="job-worker", daemon=True)
        try:
            serving.start()
        except (RuntimeError, MemoryError) as error:  # the lookout calls again
            self._give_back()
            log.error("no thread for a job: %s", error)

    def _takes_place(self) -> bool:
        with self._lock:
            if self._closed:
                return False
            if self._free == 0:
                self._called = True  # whoever finds nothing looks again
                return False
            self._free -= 1
            return True

    def _serve(self) -> None:
        try:
            while self._goes_on(self._work_on_next()):
                pass
        except BaseException:
            self._give_back()
            raise

    def _goes_on(self, found: bool) -> bool:
        """Whether the place is kept. Else it is free."""
        with self._lock:
            called, self._called = self._called, self._called and found
            if (found or called) and not self._closed:
                return True
            self._free += 1
            return False

    def _give_back(self) -> None:
        with self._lock:
            self._free += 1

    def close(self) -> None:
        """Begin nothing more. What runs is not waited for."""
        with self._lock:
            self._closed = True
