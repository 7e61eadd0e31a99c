"""TaskQueues: what waits for one model, by owner, and which of it makes the next batch.

Owners take turns item by item, so a two-hour file does not starve a ten-second one; an owner that
is alone gets whole batches. Knows no thread and no model.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Generic, Protocol, TypeVar

from app.engine.slots import Order
from app.engine.tasks import Task

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class Ranking(Protocol):
    """Who goes first, and who may go together: the part of `Slots` that matters here."""

    def order(self, owner: Hashable) -> Order: ...

    def may_share(self, owner: Hashable, other: Hashable) -> bool: ...


class TaskQueues(Generic[Item, Outcome]):
    """Not thread-safe: its owner holds a lock."""

    def __init__(
        self, ranking: Ranking, best_size: Callable[[Sequence[Task[Item, Outcome]]], int]
    ) -> None:
        """`best_size`: how many tasks a batch should have that begins with these."""
        self._ranking = ranking
        self._best_size = best_size
        self._queues: OrderedDict[Hashable, deque[Task[Item, Outcome]]] = OrderedDict()

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._queues)

    @property
    def num_tasks(self) -> int:
        """How many wait, also of those that were cancelled."""
        return sum(map(len, self._queues.values()))

    def add(
        self, owner: Hashable, tasks: Sequence[Task[Item, Outcome]], first: bool = False
    ) -> None:
        """Queue an owner's tasks behind its others, or before them if `first`."""
        queue = self._queues.setdefault(owner, deque())
        if first:
            queue.extendleft(reversed(tasks))
        else:
            queue.extend(tasks)

    def first_owner(self) -> Hashable | None:
        """The owner that is served next; None if nobody waits."""
        return min(self._queues, key=self._ranking.order, default=None)

    def take_all(self) -> list[Task[Item, Outcome]]:
        """Everything that waits; nothing is left."""
        queues, self._queues = self._queues, OrderedDict()
        return [task for queue in queues.values() for task in queue]

    def fill(self, batch: list[Task[Item, Outcome]], admitted: Sequence[Hashable]) -> None:
        """Take one task of each owner in turn, all with the key of the first, until it is full.
        Those who can wait take their turns after all others.

        `batch`: an empty list, filled in place, so that nothing taken is lost if this fails.
        `admitted`: the owners that got the slot. Takes nothing if they have no work left and nobody
        else may share with them.
        """
        while not self._is_full(batch) and any(
            self._take_turns(batch, admitted, owners) for owners in self._ranks()
        ):
            pass

    def _ranks(self) -> Iterator[list[Hashable]]:
        """Owners in their order: those who can wait come last, by themselves."""
        in_order = sorted(self._queues, key=self._ranking.order)
        for _, owners in groupby(in_order, key=lambda owner: self._ranking.order(owner)[0]):
            yield list(owners)

    def _take_turns(
        self,
        batch: list[Task[Item, Outcome]],
        admitted: Sequence[Hashable],
        owners: Iterable[Hashable],
    ) -> bool:
        """Take one task of each owner. Whether any had one that fits."""
        progress = False
        for owner in owners:
            if self._is_full(batch):
                break
            beside = [batch[0].owner] if batch else admitted
            if not all(self._ranking.may_share(other, owner) for other in beside):
                continue
            task = self._pop(owner, batch)
            if task is not None:
                batch.append(task)
                progress = True
        return progress

    def _is_full(self, batch: Sequence[Task[Item, Outcome]]) -> bool:
        return bool(batch) and len(batch) >= self._best_size(batch)

    def _pop(
        self, owner: Hashable, batch: Sequence[Task[Item, Outcome]]
    ) -> Task[Item, Outcome] | None:
        """The owner's next task that fits into the batch; the owner goes to the end."""
        queue = self._queues[owner]
        while queue and queue[0].future.cancelled():
            queue.popleft()
        found = next((task for task in queue if self._fits(task, batch)), None)
        if found is not None:
            queue.remove(found)
            if queue:
                self._queues.move_to_end(owner)
            if not found.future.set_running_or_notify_cancel():
                found = None
        if not queue:
            del self._queues[owner]
        return found

    def _fits(self, task: Task[Item, Outcome], batch: Sequence[Task[Item, Outcome]]) -> bool:
        if not batch:
            return True
        return task.key == batch[0].key and len(batch) < self._best_size([*batch, task])
