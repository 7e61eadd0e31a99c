"""Turns: whose work a device does next, where models at once would only slow each other down."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

EXPECT_S = 0.02  # how long a light owner's next stage is waited for
MAX_OWNERS = 256
SLOTS = 2  # one computes while the other is in a part that takes one core, or none
RISE = 0.5  # of newcomers' tags, by the seconds done: as if there were always two to share them


class Turns(Protocol):
    """What the models of one device share."""

    def tag(self, owner: Hashable) -> float:
        """The lowest goes first."""

    def turn(self, lowest: Callable[[], float]) -> AbstractContextManager[list[Hashable]]:
        """Wait until it is the turn of the model whose queue has the tag `lowest`.

        The block puts the owners that it serves into the list that it gets.
        """


class FreeForAll:
    """For a GPU, which runs several models side by side: everyone at once, in turn by queue."""

    def tag(self, owner: Hashable) -> float:
        return 0.0

    @contextmanager
    def turn(self, lowest: Callable[[], float]) -> Iterator[list[Hashable]]:
        yield []


class FairTurns:
    """For a CPU: few batches at a time have all cores, and owners get the same share of the time.

    An owner that used little goes first, so that a clip passes a long file at each of its stages.
    A newcomer starts level with whoever is served, and that level rises with all that is done, so
    that a stream of newcomers starves nobody.
    Source: start-time fair queueing, Goyal, Vin and Cheng 1996; that a light owner's next batch is
    waited for a moment: anticipatory scheduling, Iyer and Druschel 2001.
    """

    def __init__(self, slots: int = SLOTS) -> None:
        self._slots = slots
        self._changed = threading.Condition()
        self._waiting: list[Callable[[], float]] = []
        self._num_running = 0
        self._now = 0.0  # the tag of newcomers
        # device seconds that each owner was charged, on the scale of the tags
        self._used: dict[Hashable, float] = {}  # read without the lock
        self._expected = -math.inf  # until when, and with which tag, somebody may come back
        self._expected_until = -math.inf

    def tag(self, owner: Hashable) -> float:
        return max(self._now, self._used.get(owner, 0.0))

    @contextmanager
    def turn(self, lowest: Callable[[], float]) -> Iterator[list[Hashable]]:
        with self._changed:
            self._waiting.append(lowest)
            self._changed.notify_all()  # whoever is expected may be this one
            while not self._is_next(lowest):
                left_s = max(EXPECT_S, self._expected_until - time.monotonic())
                # tags change without a word, so only who is busy can be relied on to wake others
                self._changed.wait(None if self._full else left_s)
            self._waiting.remove(lowest)
            self._num_running += 1
            self._now = max(self._now, lowest())
            self._changed.notify_all()  # there may be another slot
        owners: list[Hashable] = []
        started = time.monotonic()
        try:
            yield owners
        finally:
            with self._changed:
                self._charge(owners, time.monotonic() - started)
                self._num_running -= 1
                self._changed.notify_all()

    @property
    def _full(self) -> bool:
        return self._num_running >= self._slots

    def _is_next(self, lowest: Callable[[], float]) -> bool:
        if self._full:
            return False
        tags = [other() for other in self._waiting]
        if self._waiting[tags.index(min(tags))] != lowest:
            return False
        return min(tags) <= self._expected or time.monotonic() >= self._expected_until

    def _charge(self, owners: list[Hashable], seconds: float) -> None:
        for owner in owners:
            used = self.tag(owner) + seconds / len(owners)
            self._used.pop(owner, None)  # so that the first is who was served longest ago
            self._used[owner] = used
        while len(self._used) > MAX_OWNERS:
            del self._used[next(iter(self._used))]
        self._now += seconds * RISE
        self._expected = min(map(self.tag, owners), default=-math.inf)
        self._expected_until = time.monotonic() + EXPECT_S if owners else -math.inf
