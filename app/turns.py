"""Turns: whose work a device does next, where models at once would only slow each other down."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import cachetools

EXPECT_S = 0.02  # how long a light owner's next stage is waited for
MAX_OWNERS = 256
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
    """For a CPU: one batch at a time has all cores, and owners get the same share of the time.

    An owner that used little goes first, so that a clip passes a long file at each of its stages.
    A newcomer starts level with whoever is served, and that level rises with all that is done, so
    that a stream of newcomers starves nobody.
    Source: start-time fair queueing, Goyal, Vin and Cheng 1996; that a light owner's next batch is
    waited for a moment: anticipatory scheduling, Iyer and Druschel 2001.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[Callable[[], float]] = []
        self._busy = False
        self._now = 0.0  # the tag of newcomers
        # device seconds that each owner was charged, on the scale of the tags
        self._used: cachetools.LRUCache[Hashable, float] = cachetools.LRUCache(MAX_OWNERS)
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
                self._changed.wait(None if self._busy else left_s)
            self._waiting.remove(lowest)
            self._busy = True
            self._now = max(self._now, lowest())
        owners: list[Hashable] = []
        started = time.monotonic()
        try:
            yield owners
        finally:
            with self._changed:
                self._charge(owners, time.monotonic() - started)
                self._busy = False
                self._changed.notify_all()

    def _is_next(self, lowest: Callable[[], float]) -> bool:
        if self._busy:
            return False
        tags = [other() for other in self._waiting]
        if self._waiting[tags.index(min(tags))] != lowest:
            return False
        return min(tags) <= self._expected or time.monotonic() >= self._expected_until

    def _charge(self, owners: list[Hashable], seconds: float) -> None:
        for owner in owners:
            self._used[owner] = self.tag(owner) + seconds / len(owners)
        self._now += seconds * RISE
        self._expected = min(map(self.tag, owners), default=-math.inf)
        self._expected_until = time.monotonic() + EXPECT_S if owners else -math.inf
