"""Slots: whose work a device does next, if models would only slow each other down.

A model takes a slot of its device for each batch; a slot serves the owners of that batch.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from app.engine.background import Patience
from app.engine.urgency import Urgency

EXPECT_S = 0.02  # how long to wait for the next stage of an owner that was just served
MAX_OWNERS = 256
NUM_SLOTS = 3  # Whisper's two workers and another model, all of which use one core or none in parts
NUM_SLOTS_URGENT = 2  # while somebody speaks: what is under way is over sooner
# Two owners may run at once, or share a batch, unless one used more than HEAVIER times the seconds
# of the other plus LEEWAY_S: a clip has all cores to itself, while equals share them.
HEAVIER = 2.0
LEEWAY_S = 2.0  # newcomers also start this much ahead of the others
RISE = 0.5  # of the level of tags per second that newcomers use: a stream of them gets half


First = Callable[[], Hashable | None]
Order = tuple[bool, float]  # who can wait goes last


@dataclass(slots=True, eq=False)
class Slot:
    """A share of the device. `owners`: whom it serves, set by its holder. `since`: time before this
    moment is already charged to them."""

    owners: list[Hashable]
    since: float = field(default_factory=time.monotonic)


class Slots(Protocol):
    """The slots that the models of one device share. `can_pause`: in the middle of a batch."""

    can_pause: bool

    def order(self, owner: Hashable) -> Order:
        """The owner with the lowest order goes first. Its first part: the owner takes only what
        room the others leave."""

    def may_share(self, owner: Hashable, other: Hashable) -> bool:
        """Whether a batch may hold work of both."""

    def slot(self, first: First, ahead: bool) -> AbstractContextManager[Slot]:
        """Wait for a slot. `first()` returns the next owner in the model's queue, or None if the
        model has something else to do. `ahead`: before owners of the same order.
        """

    def gives_way(self, slot: Slot, owners: list[Hashable], first: First) -> bool:
        """In the middle of a batch of these `owners`: let much lighter owners go first.

        True: the slot now belongs to `first()`, the next in this model's queue; serve it, then ask
        again. False: the slot belongs to the `owners` again.
        """


class FreeForAll:
    """For a GPU, which runs several models side by side: nobody waits for another model.

    Background work fills up the batches of others: there, a fuller batch takes hardly longer.
    Urgent work goes first, every other time.
    """

    can_pause = False

    def __init__(self) -> None:
        self._patience = Patience()
        self._urgency = Urgency()

    def order(self, owner: Hashable) -> Order:
        return self._patience.can_wait(owner), 0.0 if self._urgency.goes_first(owner) else 1.0

    def may_share(self, owner: Hashable, other: Hashable) -> bool:
        return True

    @contextmanager
    def slot(self, first: First, ahead: bool) -> Iterator[Slot]:
        slot = Slot([])
        try:
            yield slot
        finally:
            self._patience.served(slot.owners)
            self._urgency.served(slot.owners)

    def gives_way(self, slot: Slot, owners: list[Hashable], first: First) -> bool:
        return False


@dataclass(slots=True)
class _Use:
    """What an owner used so far: on the scale of the tags, and in seconds of the device."""

    tag: float = 0.0
    seconds: float = 0.0


NOTHING = _Use()


class FairSlots:
    """For a CPU: few batches at a time use all cores, and owners get equal shares of the time.

    An owner that used little goes first, so a clip overtakes a long file at each stage and even
    between two layers of a network. Background work always gives way so, and shares neither a batch
    nor the cores with others: what they do would take longer.
    A newcomer starts a little ahead of the owners being served, enough for a clip. That level rises
    with what newcomers use, so a stream of them starves nobody.
    Source: start-time fair queueing, Goyal, Vin and Cheng 1996. Waiting a moment for an owner's
    next batch: anticipatory scheduling, Iyer and Druschel 2001.
    """

    can_pause = True

    def __init__(self, num_slots: int = NUM_SLOTS) -> None:
        self._num_slots = num_slots
        self._changed = threading.Condition()
        self._waiting: list[First] = []
        self._running: list[Slot] = []
        self._patience = Patience()
        self._urgency = Urgency()
        self._now = 0.0  # the level of tags
        self._used: OrderedDict[Hashable, _Use] = OrderedDict()  # read without the lock
        self._served: list[Hashable] = []  # by the last slot; may come back until _expected_until
        self._expected_until = -math.inf

    def order(self, owner: Hashable) -> Order:
        return self._patience.can_wait(owner), self.tag(owner)

    def tag(self, owner: Hashable) -> float:
        used = self._used.get(owner)
        if used is None:
            return self._now - LEEWAY_S
        # further back, so that an owner overtaken by newcomers is not level with each new one
        return max(self._now - 2 * LEEWAY_S, used.tag)

    def may_share(self, owner: Hashable, other: Hashable) -> bool:
        return not self._is_in_its_way(owner, other) and not self._is_in_its_way(other, owner)

    @contextmanager
    def slot(self, first: First, ahead: bool) -> Iterator[Slot]:
        with self._changed:
            slot = Slot([])
            self._wait(slot, first, ahead)
        try:
            yield slot
        finally:
            with self._changed:
                self._charge(slot)
                self._end(slot)

    def gives_way(self, slot: Slot, owners: list[Hashable], first: First) -> bool:
        def lighter() -> Hashable | None:
            owner = first()
            return owner if owner is not None and self._goes_before(owner, owners) else None

        def next_one() -> Hashable:
            owner = lighter()
            return min(owners, key=self.order) if owner is None else owner

        with self._changed:
            self._charge(slot)
            served_others = slot.owners is not owners
            if not served_others and not self._is_in_the_way(slot, lighter):
                return False
            self._end(slot) if served_others else self._running.remove(slot)
            self._changed.notify_all()
            self._wait(slot, next_one, ahead=True)
            if lighter() is not None:
                return True
            slot.owners = owners
            return False

    def _is_in_the_way(self, slot: Slot, lighter: First) -> bool:
        """Whether a much lighter owner waits, is expected, or works in another slot."""
        if lighter() is not None:
            return True
        waiting = [owner for first in self._waiting if (owner := first()) is not None]
        running = [owner for other in self._running if other is not slot for owner in other.owners]
        others = (*waiting, *running, *self._expected)
        return any(self._goes_before(owner, slot.owners) for owner in others)

    def _goes_before(self, owner: Hashable, owners: list[Hashable]) -> bool:
        return all(
            self._is_in_its_way(other, owner) and self.order(owner) < self.order(other)
            for other in owners
        )

    # -- with the lock ---------------------------------------------------------------------------

    def _wait(self, slot: Slot, first: First, ahead: bool) -> None:
        self._waiting.insert(0 if ahead else len(self._waiting), first)
        self._changed.notify_all()  # the expected owner may be this one
        try:
            while not self._is_next(first):
                left_s = self._expected_until - time.monotonic()
                # tags and urgency change without a notice: only busy slots are sure to wake others
                busy = len(self._running) >= self._num_slots
                self._changed.wait(None if busy else left_s if left_s > 0 else EXPECT_S)
        finally:
            self._waiting.remove(first)
        owner = first()
        slot.owners = [] if owner is None else [owner]
        slot.since = time.monotonic()
        self._urgency.note(owner)
        self._running.append(slot)
        self._now = max(self._now, self._order_of(owner)[1])
        self._changed.notify_all()  # there may be another slot

    def _charge(self, slot: Slot) -> None:
        """Charge its owners for the time since the last charge."""
        now = time.monotonic()
        seconds, slot.since = now - slot.since, now
        for owner in slot.owners:
            share = seconds / len(slot.owners)
            used_s = self._seconds(owner)
            self._used[owner] = _Use(self.tag(owner) + share, used_s + share)
            self._used.move_to_end(owner)  # the first was served longest ago
            if used_s < LEEWAY_S:  # others raise the level by their own tags
                self._now += share * RISE
        while len(self._used) > MAX_OWNERS:
            self._used.popitem(last=False)

    def _end(self, slot: Slot) -> None:
        """Free the slot. Its owners may come back at once."""
        self._running.remove(slot)
        self._patience.served(slot.owners)
        if slot.owners:
            self._served = slot.owners
            self._expected_until = time.monotonic() + EXPECT_S
        self._changed.notify_all()

    @property
    def _expected(self) -> list[Hashable]:
        return self._served if time.monotonic() < self._expected_until else []

    @property
    def _full(self) -> bool:
        urgent = self._urgency.lasts and len(self._running) >= NUM_SLOTS_URGENT
        return urgent or len(self._running) >= self._num_slots

    def _order_of(self, owner: Hashable | None) -> Order:
        return (False, -math.inf) if owner is None else self.order(owner)

    def _is_next(self, first: First) -> bool:
        if self._full:
            return False
        owners = [other() for other in self._waiting]
        orders = [self._order_of(owner) for owner in owners]
        place = orders.index(min(orders))
        if self._waiting[place] != first or not self._may_join(owners[place]):
            return False
        return all(orders[place] <= self.order(owner) for owner in self._expected)

    def _may_join(self, owner: Hashable | None) -> bool:
        """Whether this owner would not slow down one that runs and should go first."""
        running = [other for slot in self._running for other in slot.owners]
        return owner is None or not any(self._is_in_its_way(owner, other) for other in running)

    def _is_in_its_way(self, owner: Hashable, other: Hashable) -> bool:
        """Whether the owner should not slow the other one down."""
        can_wait = self._patience.can_wait(owner)
        if can_wait != self._patience.can_wait(other):
            return can_wait
        return self._is_heavier(owner, other)

    def _is_heavier(self, owner: Hashable, other: Hashable) -> bool:
        return self._seconds(owner) > HEAVIER * self._seconds(other) + LEEWAY_S

    def _seconds(self, owner: Hashable) -> float:
        return self._used.get(owner, NOTHING).seconds
