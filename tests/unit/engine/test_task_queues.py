"""TaskQueues: which tasks make the next batch, without a model and without a thread."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from app.engine.slots import Order
from app.engine.task_queues import TaskQueues
from app.engine.tasks import Task

SIZE = 4
Tasks = TaskQueues[str, None]


class Ranks:
    """Owners in the order of their names. One named `idle` can wait; `alone` shares with nobody."""

    def order(self, owner: Hashable) -> Order:
        return owner == "idle", 0.0 if owner == "idle" else float(ord(str(owner)[0]))

    def may_share(self, owner: Hashable, other: Hashable) -> bool:
        return owner == other or "alone" not in (owner, other)


def queues(**items: str) -> Tasks:
    """For each owner, items named by a letter, which is also their key if it is upper case."""
    waiting: Tasks = TaskQueues(Ranks(), lambda batch: SIZE)
    for owner, letters in items.items():
        waiting.add(owner, tasks(owner, letters))
    return waiting


def tasks(owner: str, letters: str) -> list[Task[str, None]]:
    return [Task(owner, x, x if x.isupper() else "", length=0) for x in letters]


def batch_of(waiting: Tasks, admitted: Sequence[Hashable] = ()) -> str:
    batch: list[Task[str, None]] = []
    waiting.fill(batch, admitted)
    assert all(task.future.running() for task in batch)
    return "".join(task.item for task in batch)


def test_owners_take_turns_and_one_alone_gets_whole_batches() -> None:
    waiting = queues(b="uvwxyz", a="ab")
    assert [batch_of(waiting) for _ in range(3)] == ["aubv", "wxyz", ""]
    assert not waiting


def test_who_can_wait_takes_what_room_is_left() -> None:
    waiting = queues(idle="uvwxyz", b="ab")
    assert [batch_of(waiting) for _ in range(2)] == ["abuv", "wxyz"]


def test_a_batch_has_the_key_of_its_first_task() -> None:
    waiting = queues(a="AbA", b="bA")
    assert [batch_of(waiting) for _ in range(2)] == ["AAA", "bb"]


def test_nobody_is_beside_whom_it_may_not_share_with() -> None:
    waiting = queues(alone="ab", b="uv")
    assert batch_of(waiting, admitted=["b"]) == "uv"
    assert batch_of(waiting, admitted=["b"]) == "", "b has got the slot, and has nothing left"
    assert batch_of(waiting) == "ab"


def test_the_cancelled_are_dropped() -> None:
    waiting: Tasks = queues(c="z")
    mine = tasks("a", "abc")
    waiting.add("a", mine)
    waiting.add("b", tasks("b", "x"))
    mine[0].future.cancel()
    mine[1].future.cancel()
    assert batch_of(waiting) == "cxz"


def test_what_is_queued_first_goes_before_the_owners_others() -> None:
    waiting = queues(a="cd")
    waiting.add("a", tasks("a", "ab"), first=True)
    assert waiting.first_owner() == "a"
    assert [task.item for task in waiting.take_all()] == list("abcd")
    assert waiting.first_owner() is None
