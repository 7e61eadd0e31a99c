"""Urgent work: batches are short while somebody speaks, and nobody starves."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import pytest

from app.engine.batching import Batcher
from app.engine.sizing import BatchSizer, BatchSizers
from app.engine.slots import FairSlots, FreeForAll
from app.engine.urgency import SPEAKING_S
from app.engine.work import Work
from tests.support.waiting import eventually


class Model:
    """Waits for its gate; an item's first letter is its batch key."""

    batch_size, num_workers, memory_bytes = 8, 1, 1

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.gate = threading.Event()
        self.entered = threading.Event()

    def batch_key(self, item: str) -> Hashable:
        return item[0]

    def audio_s(self, item: str) -> float:
        return 30.0

    def run(self, items: Sequence[str]) -> list[str]:
        self.entered.set()
        assert self.gate.wait(30)
        self.batches.append(list(items))
        return list(items)

    def close(self) -> None:
        pass


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """A batcher whose batches take 0.2 s for each item, as far as its sizers know."""
    sizer = BatchSizer(8)
    for size in (1, 1, 2, 4, 8):
        sizer.observe(size, 0.1 + 0.1 * size)
    monkeypatch.setattr(BatchSizers, "of", lambda *arguments: sizer)
    monkeypatch.setattr(sizer, "observe", lambda *arguments: None)
    batchers: list[Batcher[Any, Any]] = []

    def create(slots: Any, clock: Any = time.monotonic) -> tuple[Model, Batcher[Any, Any]]:
        batcher: Batcher[Any, Any] = Batcher("model", Model, slots=slots, clock=clock)
        batchers.append(batcher)
        batcher.submit("blocker", ["block"])
        assert batcher.model.entered.wait(30)
        return batcher.model, batcher

    yield create
    for batcher in batchers:
        batcher.model.gate.set()
        batcher.close()


def test_batches_are_short_while_somebody_speaks(make: Any) -> None:
    model, batcher = make(FreeForAll())
    long, live = Work("long", 60), Work("live", 60, urgent=True)
    futures = long.submit(batcher, [f"a{i}" for i in range(8)])
    [said] = live.submit(batcher, ["b"])
    model.gate.set()
    for future in (*futures, said):
        future.result(30)
    assert model.batches[1] == ["b"]  # first
    assert [len(batch) for batch in model.batches[2:]] == [4, 4]  # of 0.5 s, not of 0.9


def test_without_urgent_work_batches_are_full(make: Any) -> None:
    model, batcher = make(FreeForAll())
    futures = Work("long", 60).submit(batcher, [f"a{i}" for i in range(8)])
    model.gate.set()
    for future in futures:
        future.result(30)
    assert [len(batch) for batch in model.batches[1:]] == [8]


@pytest.mark.parametrize(
    ("passed_s", "sizes"), [(0.0, [4, 4]), (SPEAKING_S - 0.1, [4, 4]), (SPEAKING_S + 0.1, [8])]
)
def test_batches_are_short_as_soon_and_as_long_as_somebody_speaks(
    make: Any, passed_s: float, sizes: list[int]
) -> None:
    """Before the first words are to be recognized, and in pauses between them."""
    now = [100.0]
    model, batcher = make(FreeForAll(), lambda: now[0])
    batcher.expect(Work("live", 60, urgent=True))
    batcher.expect(Work("long", 60))
    now[0] += passed_s
    futures = Work("long", 60).submit(batcher, [f"a{i}" for i in range(8)])
    model.gate.set()
    for future in futures:
        future.result(30)
    assert [len(batch) for batch in model.batches[1:]] == sizes


def test_batches_that_can_pause_stay_full(make: Any) -> None:
    model, batcher = make(FairSlots())
    futures = Work("long", 60).submit(batcher, [f"a{i}" for i in range(8)])
    [said] = Work("live", 60, urgent=True).submit(batcher, ["b"])
    model.gate.set()
    for future in (*futures, said):
        future.result(30)
    assert 8 in [len(batch) for batch in model.batches]


@pytest.mark.parametrize(("urgent", "at_once"), [(False, 3), (True, 2)])
def test_a_cpu_does_less_at_once_while_somebody_speaks(urgent: bool, at_once: int) -> None:
    shared, go_on = FairSlots(), threading.Event()
    begun: list[str] = []

    def take(name: str) -> None:
        work = Work(name, 60, urgent=urgent)
        with shared.slot(lambda: work, ahead=False):
            begun.append(name)
            assert go_on.wait(30)

    threads = [threading.Thread(target=take, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    eventually(lambda: len(begun) == at_once)
    time.sleep(0.2)  # no other one follows
    assert len(begun) == at_once
    go_on.set()
    for thread in threads:
        thread.join(30)
    assert sorted(begun) == list("abcd")


def test_endless_speech_starves_nobody(make: Any) -> None:
    """Each urgent item is followed by another; the upload has its turns all the same."""
    model, batcher = make(FreeForAll())
    upload = Work("upload", 60).submit(batcher, [f"a{i}" for i in range(12)])
    done = threading.Event()

    def speak(_: Any = None) -> None:
        if not done.is_set():
            [future] = Work("live", 60, urgent=True).submit(batcher, ["b"])
            future.add_done_callback(speak)

    for _ in range(3):
        speak()
    model.gate.set()
    for future in upload:
        future.result(30)
    done.set()
    first = next(i for i, batch in enumerate(model.batches) if batch[0][0] == "a")
    assert first <= 3
    eventually(lambda: batcher.busy_s == 0)


@pytest.mark.parametrize(("seconds", "size"), [(10.0, 8), (0.5, 4), (0.35, 2), (0.01, 1)])
def test_sizes_within_a_time(seconds: float, size: int) -> None:
    sizer = BatchSizer(8)
    for number in (1, 1, 2, 4, 8):
        sizer.observe(number, 0.1 + 0.1 * number)
    assert sizer.within(seconds) == size


def test_an_unknown_size_is_tried() -> None:
    sizer = BatchSizer(8)
    assert sizer.within(0.5) == 1
    for _ in range(2):
        sizer.observe(1, 0.4)
    assert sizer.within(0.5) == 2
    sizer.observe(2, 0.7)
    assert sizer.within(0.5) == 1
