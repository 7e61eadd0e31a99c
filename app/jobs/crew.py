"""Crew: how many jobs a process works on at a time, whoever says that there is work."""

from __future__ import annotations

import threading
from collections.abc import Callable

Working = Callable[[], bool]


class Crew:
    """Places for jobs. `work_on_next`: works on the job whose turn it is; false if none waits. It
    raises nothing.

    A place passes from job to job as long as there are any, or to a thread that waits for it.
    """

    def __init__(self, num_places: int, work_on_next: Working) -> None:
        self._work_on_next = work_on_next
        self._changed = threading.Condition()
        self._num_places = self._free = num_places
        self._num_waiting = 0
        self._called = False
        self._closed = False

    @property
    def is_idle(self) -> bool:
        with self._changed:
            return self._free == self._num_places

    def call(self) -> None:
        """Have somebody look for work. Returns at once."""
        with self._changed:
            if self._closed:
                return
            if self._free == 0:
                self._called = True  # whoever finds nothing looks again
                return
            self._free -= 1
        serving = threading.Thread(
            target=self._serve, args=(self._work_on_next,), name="job-worker", daemon=True
        )
        serving.start()

    def serve(self, work: Working) -> bool:
        """Wait for a place, do this work in it, then what waits. False: there are no places any
        more.
        """
        with self._changed:
            self._num_waiting += 1
            self._changed.wait_for(lambda: self._free or self._closed)
            self._num_waiting -= 1
            if self._closed:
                return False
            self._free -= 1
        self._serve(work)
        return True

    def _serve(self, work: Working) -> None:
        while self._goes_on(work()):
            work = self._work_on_next

    def _goes_on(self, found: bool) -> bool:
        """Whether the place is kept. Else it is free."""
        with self._changed:
            called, self._called = self._called, self._called and found
            if (found or called) and not self._num_waiting and not self._closed:
                return True
            self._free += 1
            self._changed.notify_all()
            return False

    def close(self) -> None:
        """Begin nothing more. What runs is not waited for."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
