"""Turns: whose work a device does next, where models at once would only slow each other down."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

EXPECT_S = 0.02  # how long a light owner's next stage is waited for
MAX_OWNERS = 256
SLOTS = 2  # one computes while the other is in a part that takes one core, or none
# Beside a batch whose owner used so many seconds, or in it, there may be an owner who used HEAVIER
# times as many and LEEWAY_S more: a clip has all cores for itself, while equals share them.
HEAVIER = 2.0
LEEWAY_S = 2.0
RISE = 0.5  # of newcomers' tags, by the seconds done: as if there were always two to share them


First = Callable[[], Hashable | None]


class Turns(Protocol):
    """What the models of one device share."""

    def tag(self, owner: Hashable) -> float:
        """The lowest goes first."""

    def turn(self, first: First, ahead: bool) -> AbstractContextManager[list[Hashable]]:
        """Wait until it is the turn of the model in whose queue the owner `first()` is next, or
        nobody where it has something else to do. `ahead`: before its equals.

        The block puts the owners that it serves into the list that it gets, in place of this one.
        """

    def may_share(self, owner: Hashable, other: Hashable) -> bool:
        """Whether work of both may be in one batch."""


class FreeForAll:
    """For a GPU, which runs several models side by side: everyone at once, in turn by queue."""

    def tag(self, owner: Hashable) -> float:
        return 0.0

    def may_share(self, owner: Hashable, other: Hashable) -> bool:
        return True

    @contextmanager
    def turn(self, first: First, ahead: bool) -> Iterator[list[Hashable]]:
        yield []


@dataclass(slots=True)
class _Use:
    """What an owner had so far: on the scale of the tags, and in seconds of the device."""

    tag: float = 0.0
    seconds: float = 0.0


NOTHING = _Use()


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
        self._waiting: list[First] = []
        self._running: list[list[Hashable]] = []  # the owners of each batch
        self._now = 0.0  # the tag of newcomers
        self._used: dict[Hashable, _Use] = {}  # read without the lock
        self._expected = -math.inf  # until when, and with which tag, somebody may come back
        self._expected_until = -math.inf

    def tag(self, owner: Hashable) -> float:
        return max(self._now, self._used.get(owner, NOTHING).tag)

    def may_share(self, owner: Hashable, other: Hashable) -> bool:
        return not self._is_heavier(owner, other) and not self._is_heavier(other, owner)

    @contextmanager
    def turn(self, first: First, ahead: bool) -> Iterator[list[Hashable]]:
        with self._changed:
            self._waiting.insert(0 if ahead else len(self._waiting), first)
            self._changed.notify_all()  # whoever is expected may be this one
            while not self._is_next(first):
                left_s = max(EXPECT_S, self._expected_until - time.monotonic())
                # tags change without a word, so only who is busy can be relied on to wake others
                self._changed.wait(None if self._full else left_s)
            self._waiting.remove(first)
            owner = first()
            owners: list[Hashable] = [] if owner is None else [owner]
            self._running.append(owners)
            self._now = max(self._now, self._tag_of(owner))
            self._changed.notify_all()  # there may be another slot
        started = time.monotonic()
        try:
            yield owners
        finally:
            with self._changed:
                self._charge(owners, time.monotonic() - started)
                self._running = [other for other in self._running if other is not owners]
                self._changed.notify_all()

    @property
    def _full(self) -> bool:
        return len(self._running) >= self._slots

    def _tag_of(self, owner: Hashable | None) -> float:
        return -math.inf if owner is None else self.tag(owner)

    def _is_next(self, first: First) -> bool:
        if self._full:
            return False
        owners = [other() for other in self._waiting]
        tags = [self._tag_of(owner) for owner in owners]
        place = tags.index(min(tags))
        if self._waiting[place] != first or not self._may_join(owners[place]):
            return False
        return tags[place] <= self._expected or time.monotonic() >= self._expected_until

    def _may_join(self, owner: Hashable | None) -> bool:
        """Whether what runs is not to be slowed down by this one."""
        running = [other for owners in self._running for other in owners]
        return owner is None or not any(self._is_heavier(owner, other) for other in running)

    def _is_heavier(self, owner: Hashable, other: Hashable) -> bool:
        return self._seconds(owner) > HEAVIER * self._seconds(other) + LEEWAY_S

    def _seconds(self, owner: Hashable) -> float:
        return self._used.get(owner, NOTHING).seconds

    def _charge(self, owners: list[Hashable], seconds: float) -> None:
        for owner in owners:
            share = seconds / len(owners)
            # anew, so that the first is who was served longest ago
            used = self._used.pop(owner, NOTHING)
            self._used[owner] = _Use(max(self._now, used.tag) + share, used.seconds + share)
        while len(self._used) > MAX_OWNERS:
            del self._used[next(iter(self._used))]
        self._now += seconds * RISE
        self._expected = min(map(self.tag, owners), default=-math.inf)
        self._expected_until = time.monotonic() + EXPECT_S if owners else -math.inf
