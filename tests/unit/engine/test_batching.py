"""Batcher and Work: what happens when models fail, callers leave and requests pile up."""

from __future__ import annotations

import functools
import gc
import threading
import time
import weakref
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from app.domain.errors import ClientGone, DeadlineExceeded, ModelUnavailable, StageFailed
from app.engine import background, recovery, sizing, slots
from app.engine.batching import Batcher
from app.engine.pauses import pause
from app.engine.recovery import Recovery
from app.engine.sizing import BatchSizer
from app.engine.slots import FairSlots
from app.engine.work import Work
from tests.support.waiting import eventually


class Echo:
    """A model without weights: answers with the item, records its batches, fails on demand."""

    def __init__(self, batch_size: int = 4, num_workers: int = 1) -> None:
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.memory_bytes = 1
        self.batches: list[list[Any]] = []
        self.threads: set[int] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.closed = False
        self.capacity = 100  # more items at once and it is out of memory

    def batch_key(self, item: Any) -> Hashable:
        return item[0] if isinstance(item, tuple) else ""

    def audio_s(self, item: Any) -> float:
        return item if isinstance(item, float) else 30.0

    def run(self, items: Sequence[Any]) -> list[Any]:
        self.threads.add(threading.get_ident())
        self.entered.set()
        assert self.gate.wait(10)
        self.batches.append(list(items))
        if len(items) > self.capacity:
            raise MemoryError
        if any(isinstance(item, str) and item == "poison" for item in items):
            raise ValueError("poisoned")
        if any(isinstance(item, str) and item == "exit" for item in items):
            raise SystemExit
        return list(items)

    def close(self) -> None:
        self.threads.add(threading.get_ident())
        self.closed = True


@pytest.fixture
def make() -> Iterator[Callable[..., tuple[Echo, Batcher[Any, Any]]]]:
    batchers: list[Batcher[Any, Any]] = []

    def create(batch_size: int = 4, num_workers: int = 1) -> tuple[Echo, Batcher[Any, Any]]:
        batcher = Batcher("echo", lambda: Echo(batch_size, num_workers))
        batchers.append(batcher)
        for _ in range(8):  # until its batches have grown
            values(batcher.submit("warming up", ["warm"] * batch_size))
        batcher.model.batches.clear()
        return batcher.model, batcher

    yield create
    for batcher in batchers:
        if batcher.alive:
            batcher.model.gate.set()
        batcher.close()


def block(model: Echo, batcher: Batcher[Any, Any]) -> Future[Any]:
    """Keep the model busy until its gate opens, so that work piles up behind it."""
    model.gate.clear()
    model.entered.clear()
    [future] = batcher.submit("blocker", ["block"])
    assert model.entered.wait(10)
    return future


def values(futures: Sequence[Future[Any]]) -> list[Any]:
    return [future.result(60) for future in futures]


def test_a_lone_request_gets_whole_batches(make: Any) -> None:
    model, batcher = make(4)
    block(model, batcher)
    futures = batcher.submit("a", list("12345678"))
    model.gate.set()
    assert values(futures) == list("12345678")
    assert model.batches[1:] == [list("1234"), list("5678")]


def test_requests_take_turns(make: Any) -> None:
    """The short request is in the next batch, however long the queue of the other is."""
    model, batcher = make(2)
    block(model, batcher)
    long = batcher.submit("long", [f"long{i}" for i in range(50)])
    short = batcher.submit("short", ["short"])
    model.gate.set()
    values(short)
    assert "short" in model.batches[1]
    values(long)
    assert sum(len(batch) for batch in model.batches) == 52


def test_only_equal_keys_share_a_batch(make: Any) -> None:
    model, batcher = make(8)
    for _ in range(8):
        values(batcher.submit("warming up", [(key, 0) for key in "xy" for _ in range(8)]))
    model.batches.clear()
    block(model, batcher)
    first = batcher.submit("a", [("x", 1), ("y", 2), ("x", 3)])
    second = batcher.submit("b", [("y", 4), ("x", 5)])
    model.gate.set()
    assert values(first) + values(second) == [("x", 1), ("y", 2), ("x", 3), ("y", 4), ("x", 5)]
    for batch in model.batches[1:]:
        assert len({model.batch_key(item) for item in batch}) == 1
    assert len(model.batches) == 3


def test_items_that_cannot_be_compared_share_queues(make: Any) -> None:
    """Arrays refuse to be compared as a whole; the queue must not ask them to."""
    model, batcher = make(8)
    block(model, batcher)
    first = batcher.submit("a", [("x", np.zeros(3)), ("y", np.zeros(3)), ("x", np.zeros(4))])
    second = batcher.submit("b", [("y", np.ones(3)), ("y", np.ones(2))])
    model.gate.set()
    assert [value[0] for value in values(first) + values(second)] == ["x", "y", "x", "y", "y"]
    assert batcher.alive


def test_a_lost_device_ends_everything() -> None:
    ended: list[bool] = []
    recovery = Recovery(
        lambda error: False,
        lambda: None,
        is_fatal=lambda error: "poisoned" in str(error),
        give_up=lambda: ended.append(True),
    )
    batcher = Batcher("echo", Echo, recovery)
    try:
        with pytest.raises(ModelUnavailable):
            batcher.submit("a", ["poison"])[0].result(60)
        assert ended == [True]
    finally:
        batcher.close()


def test_only_the_guilty_item_fails(make: Any) -> None:
    model, batcher = make(4)
    block(model, batcher)
    innocent = batcher.submit("a", ["1", "2"])
    [guilty] = batcher.submit("b", ["poison"])
    model.gate.set()
    assert values(innocent) == ["1", "2"]
    with pytest.raises(StageFailed) as failure:
        guilty.result(60)
    assert "poisoned" not in str(failure.value)
    assert values(batcher.submit("c", ["next"])) == ["next"]


def test_cancelled_work_is_dropped_when_popped(make: Any) -> None:
    model, batcher = make(1)
    block(model, batcher)
    work = Work("gone", 60)
    futures = work.submit(batcher, ["1", "2", "3"])
    other = batcher.submit("stays", ["4"])
    work.cancel(ClientGone("gone"))
    model.gate.set()
    assert values(other) == ["4"]
    assert model.batches == [["block"], ["4"]]
    with pytest.raises(ClientGone):
        work.wait(futures[0])
    with pytest.raises(ClientGone):
        work.submit(batcher, ["5"])


def test_waiting_ends_at_the_deadline_and_drops_the_rest(make: Any) -> None:
    model, batcher = make(1)
    block(model, batcher)
    work = Work("late", 0.05)
    futures = work.submit(batcher, ["1", "2"])
    with pytest.raises(DeadlineExceeded):
        work.wait(futures[0])
    model.gate.set()
    assert values(batcher.submit("next", ["3"])) == ["3"]
    assert ["1"] not in model.batches
    assert all(future.cancelled() for future in futures)


class Recording:
    """Stands for what a request has mapped."""


def test_work_that_is_given_up_holds_nothing_of_its_request() -> None:
    """Whose turn it is goes by it long after the request, so no collector is waited for."""
    recordings: list[weakref.ref[Recording]] = []

    def stage(work: Work, future: Future[None]) -> None:
        recording = Recording()
        recordings.append(weakref.ref(recording))
        work.wait(future)
        raise AssertionError

    failed: Future[None] = Future()
    failed.set_exception(StageFailed("broken"))
    dropped: Future[None] = Future()
    dropped.cancel()
    given_up = Work("given up", 60)
    given_up.cancel(ClientGone("gone"))
    cases = (
        (given_up, dropped, ClientGone),
        (Work("late", 0), Future(), DeadlineExceeded),
        (Work("broken", 60), failed, StageFailed),
    )
    gc.disable()
    try:
        for work, future, reason in cases:
            for _ in range(2):
                with suppress(reason):
                    stage(work, future)
        assert [recording() for recording in recordings] == [None] * 6
    finally:
        gc.enable()
    with pytest.raises(ClientGone, match="gone"):
        given_up.check()


def test_a_time_out_of_the_work_itself_is_not_the_deadline() -> None:
    work = Work("request", 60)
    future: Future[None] = Future()
    future.set_exception(TimeoutError())
    with pytest.raises(TimeoutError):
        work.wait(future)


def test_one_thread_owns_the_model(make: Any) -> None:
    model, batcher = make()
    values(batcher.submit("a", list("123")) + batcher.submit("b", list("45")))
    batcher.close()
    assert model.closed
    assert len(model.threads) == 1
    assert threading.get_ident() not in model.threads


def test_close_fails_what_is_queued_and_resolves_every_future(make: Any) -> None:
    model, batcher = make(1)
    running = block(model, batcher)
    queued = batcher.submit("a", ["1", "2"])
    closing = threading.Thread(target=batcher.close)
    closing.start()
    while batcher.alive:
        time.sleep(0.01)
    model.gate.set()
    closing.join(10)
    assert running.result(60) == "block"
    for future in queued:
        with pytest.raises(ModelUnavailable):
            future.result(60)
    with pytest.raises(ModelUnavailable):
        batcher.submit("a", ["3"])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_dies_leaves_nobody_waiting(make: Any) -> None:
    model, batcher = make(1)
    block(model, batcher)
    fatal = batcher.submit("a", ["exit", "after"])
    model.gate.set()
    for future in fatal:
        with pytest.raises(ModelUnavailable):
            future.result(60)
    assert not batcher.alive
    assert model.closed


def test_a_thread_that_dies_between_queue_and_model(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Items that are in no queue any more and not yet in a call."""
    model, batcher = make()
    sizer_of = batcher._sizers.of

    def no_memory(kind: tuple[Hashable, int], max_size: int) -> BatchSizer:
        if kind[0] == "x":
            raise MemoryError
        return sizer_of(kind, max_size)

    monkeypatch.setattr(batcher._sizers, "of", no_memory)
    blocked = block(model, batcher)
    lost = batcher.submit("a", [("x", 1), ("x", 2)])
    model.gate.set()
    assert blocked.result(60) == "block"
    for future in lost:
        with pytest.raises(ModelUnavailable):
            future.result(60)
    assert not batcher.alive


def test_how_long_a_call_takes_is_known(make: Any) -> None:
    model, batcher = make()
    assert batcher.busy_s == 0
    future = block(model, batcher)
    time.sleep(0.01)
    assert batcher.busy_s >= 0.01
    model.gate.set()
    future.result(60)
    assert batcher.busy_s == 0


def test_nothing_of_a_request_is_kept(make: Any) -> None:
    """Samples are files on the disk of temporary files; they shall go with their request."""
    model, batcher = make()
    samples = np.zeros(3)
    held = weakref.ref(samples)
    [future] = batcher.submit("a", [samples])
    future.result(60)
    model.batches.clear()
    del samples, future
    deadline = time.monotonic() + 10
    while held() is not None and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
    assert held() is None


def test_a_failed_load_reaches_the_caller_and_ends_the_thread() -> None:
    def fail() -> Echo:
        raise ModelUnavailable("no weights")

    before = threading.active_count()
    with pytest.raises(ModelUnavailable):
        Batcher("broken", fail)
    assert threading.active_count() == before


def test_nothing_runs_while_there_is_nothing_to_do(make: Any) -> None:
    _, batcher = make()
    values(batcher.submit("a", ["1"]))
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.1


def test_cancelling_one_future_leaves_its_neighbours(make: Any) -> None:
    model, batcher = make(4)
    block(model, batcher)
    futures = batcher.submit("a", ["1", "2", "3"])
    assert futures[1].cancel()
    model.gate.set()
    assert futures[0].result(60) == "1"
    assert futures[2].result(60) == "3"
    with pytest.raises(CancelledError):
        futures[1].result(60)


def test_out_of_memory_halves_the_batch_and_loses_nothing(make: Any) -> None:
    model, batcher = make(8)
    model.capacity = 3
    block(model, batcher)
    futures = batcher.submit("a", list("12345678"))
    model.gate.set()
    assert values(futures) == list("12345678")
    # the next batch is small from the start
    model.batches.clear()
    values(batcher.submit("a", list("12")))
    block(model, batcher)
    futures = batcher.submit("b", list("123456"))
    model.batches.clear()
    model.gate.set()
    values(futures)
    assert max(len(batch) for batch in model.batches) <= 3


def test_out_of_memory_frees_what_it_can_before_it_gives_up() -> None:
    model = Echo()
    freed: list[int] = []

    def free() -> None:
        freed.append(1)
        if len(freed) == 2:
            model.capacity = 1

    recovery = Recovery(lambda error: isinstance(error, MemoryError), free)
    batcher = Batcher("echo", lambda: model, recovery)
    model.capacity = 0
    try:
        with pytest.raises(ModelUnavailable):
            batcher.submit("a", ["1"])[0].result(60)
        assert batcher.submit("a", ["2"])[0].result(60) == "2"
    finally:
        batcher.close()


# -- turns of models on one device ---------------------------------------------------------------


class Slow(Echo):
    """Takes a moment for each item, and notes how many of its kind work at once."""

    working = 0
    most_working = 0

    def run(self, items: Sequence[Any]) -> list[Any]:
        Slow.working += 1
        Slow.most_working = max(Slow.most_working, Slow.working)
        time.sleep(0.005 * len(items))
        Slow.working -= 1
        return super().run(items)


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Batcher[Any, Any], Batcher[Any, Any]]]:
    """Two models that share a CPU."""
    monkeypatch.setattr(slots, "LEEWAY_S", 0.05)
    shared = FairSlots(1)
    pair = (Batcher("one", lambda: Slow(1), slots=shared), Batcher("two", Slow, slots=shared))
    yield pair
    for batcher in pair:
        batcher.close()


def test_models_of_one_device_work_in_turn(
    pair: tuple[Batcher[Any, Any], Batcher[Any, Any]],
) -> None:
    Slow.most_working = 0
    futures = [future for batcher in pair for future in batcher.submit("a", list("1234"))]
    assert values(futures) == list("12341234")
    assert Slow.most_working == 1


def test_equals_share_a_cpu_and_a_long_file_does_not_slow_a_clip_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slots, "LEEWAY_S", 0.1)
    shared = FairSlots(2)
    with shared.slot(lambda: "long", False):
        time.sleep(0.3)
    begun = {name: threading.Event() for name in ("long", "other clip")}

    def work(name: str) -> None:
        with shared.slot(lambda: name, False):
            begun[name].set()

    threads = [threading.Thread(target=work, args=(name,)) for name in ("other clip", "long")]
    with shared.slot(lambda: "clip", False):
        threads[0].start()
        assert begun["other clip"].wait(5)
        threads[1].start()
        assert not begun["long"].wait(0.2)
    assert begun["long"].wait(5)
    for thread in threads:
        thread.join()


def test_a_clip_is_in_a_batch_with_its_equals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "LEEWAY_S", 0.1)
    shared = FairSlots(2)
    with shared.slot(lambda: "long", False):
        time.sleep(0.3)
    batcher = Batcher("echo", lambda: Echo(16), slots=shared)
    model = batcher.model
    try:
        for _ in range(10):  # until its batches have grown
            values(batcher.submit("warming up", ["warm"] * 16))
        model.batches.clear()
        block(model, batcher)
        futures = [
            future
            for owner in ("long", "clip", "other clip")
            for future in batcher.submit(owner, [owner, owner])
        ]
        model.gate.set()
        values(futures)
        mixed = ["clip", "other clip", "clip", "other clip"]
        assert sorted(model.batches[1:]) == [mixed, ["long", "long"]]
    finally:
        batcher.close()


def test_a_clip_passes_a_long_file_at_every_stage(
    pair: tuple[Batcher[Any, Any], Batcher[Any, Any]],
) -> None:
    first, second = pair
    long = first.submit("long", range(100)) + second.submit("long", range(100))
    long[0].result(60)
    first.submit("clip", ["x"])[0].result(60)
    second.submit("clip", ["x"])[0].result(60)
    assert sum(future.done() for future in long) < 50
    values(long)


def test_a_stream_of_clips_does_not_starve_a_long_file(
    pair: tuple[Batcher[Any, Any], Batcher[Any, Any]],
) -> None:
    first, second = pair
    long = first.submit("long", range(20))
    for number in range(200):
        second.submit(f"clip {number}", ["x"])[0].result(60)
    assert all(future.done() for future in long)


class Layered(Echo):
    """Pauses between its layers, each of which takes a moment. The figures are of long batches."""

    num_steps = 0
    paused_s = worked_s = 0.0

    def run(self, items: Sequence[Any]) -> list[Any]:
        if "whole" in items:
            time.sleep(0.1)
        long = "long" in items
        for _ in range(150 if long else 5):
            began = time.monotonic()
            pause()
            paused = time.monotonic()
            time.sleep(0.01)
            if long:
                self.num_steps += 1
                self.paused_s += paused - began
                self.worked_s += time.monotonic() - paused
        return super().run(items)


def wait_for_steps(batcher: Batcher[Layered], number: int = 25) -> None:
    """Until a long file has had its head start, and is in the middle of its batch."""
    eventually(lambda: batcher.model.num_steps >= number)


@pytest.fixture
def layered(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[tuple[Batcher[Any, Any], Batcher[Any, Any], list[float]]]:
    """Two models that share a CPU, and the seconds of the first one's batches; with one worker
    each, or with as many as the parameter says.
    """
    monkeypatch.setattr(slots, "LEEWAY_S", 0.05)
    shared, took_s = FairSlots(2), list[float]()
    load = functools.partial(Layered, num_workers=getattr(request, "param", 1))
    pair = (
        Batcher("one", load, slots=shared, observe=lambda n, room, s: took_s.append(s)),
        Batcher("two", load, slots=shared),
    )
    yield (*pair, took_s)
    for batcher in pair:
        batcher.close()


@pytest.mark.parametrize("layered", [1, 2], indirect=True)
@pytest.mark.parametrize("which", [0, 1])
def test_a_clip_passes_in_the_middle_of_a_long_batch(layered: Any, which: int) -> None:
    """On the same model and on another one."""
    first, _, took_s = layered
    [long] = first.submit("a long file", ["long"])
    wait_for_steps(first)
    begun = time.monotonic()
    for _ in range(5):
        assert values(layered[which].submit("clip", ["x"])) == ["x"]
    assert not long.done()
    assert first.busy_s < time.monotonic() - begun, "a pause is a sign of life"
    assert values([long]) == ["long"]
    model = first.model
    assert model.paused_s > 0.05
    assert took_s[-1] < model.worked_s + model.paused_s / 2, "a batch takes what it does not pause"


@pytest.mark.parametrize("layered", [1, 2], indirect=True)
def test_equals_do_not_break_into_a_batch(layered: Any) -> None:
    first, second, _ = layered
    long = first.submit("a long file", ["long"])
    other = second.submit("another long file", ["long"])
    wait_for_steps(first)
    third = first.submit("another long file", ["x"])
    values(long + other + third)
    assert long[0].started < third[0].started
    assert first.model.batches == [["long"], ["x"]]


@pytest.mark.parametrize("layered", [1, 2], indirect=True)
def test_a_stream_of_clips_does_not_starve_a_batch(layered: Any) -> None:
    first, second, _ = layered
    [long] = first.submit("a long file", ["long"])
    wait_for_steps(first)
    started = time.monotonic()
    number = 0
    while not long.done():
        number += 1
        values((first, second)[number % 2].submit(f"clip {number}", ["x"]))
        assert time.monotonic() - started < 60
    assert number > 5


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_breaks_in_a_pause_leaves_nobody_waiting(layered: Any) -> None:
    first, _, _ = layered
    [long] = first.submit("a long file", ["long"])
    wait_for_steps(first)
    with pytest.raises(StageFailed):
        first.submit("clip", ["poison"])[0].result(60)
    assert not long.done()
    with pytest.raises(ModelUnavailable):
        first.submit("clip", ["exit"])[0].result(60)
    with pytest.raises(ModelUnavailable):
        long.result(60)
    assert not first.alive


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_fault_of_ours_in_a_pause_is_not_blamed_on_the_batch(
    layered: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _, _ = layered
    [long] = first.submit("a long file", ["long"])
    wait_for_steps(first)

    def no_memory(*args: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(first._workers[0].runner, "_observe", no_memory)
    [clip] = first.submit("clip", ["x"])
    for future in (long, clip):
        with pytest.raises(ModelUnavailable):
            future.result(60)
    assert not first.alive


def test_nobody_slips_into_the_turn_of_a_clip_that_is_gone(layered: Any) -> None:
    """Neither another part of the paused file nor another long file."""
    first, second, _ = layered
    first.model.batch_size = 1
    long = first.submit("a long file", ["long", "long", "long"])
    for number in range(5):
        time.sleep(0.1)
        clips = first.submit(f"clip {number}", ["x", "y"])
        while not clips[0].running():
            time.sleep(0.001)
        clips[1].cancel()
        values(clips[:1])
    values(long)
    assert [b for b in first.model.batches if b != ["x"]] == [["long"]] * 3
    starts = [future.started for future in long]
    assert min(b - a for a, b in pairwise(starts)) > 1.4, "one began in the middle of another"
    values(second.submit("clip", ["x"]))


@pytest.mark.parametrize("layered", [1, 2], indirect=True)
def test_a_stream_of_clips_leaves_a_long_file_its_share(
    layered: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However short the steps of the one, and long the batches of the others."""
    monkeypatch.setattr(slots, "LEEWAY_S", 0.2)
    first, second, _ = layered
    [long] = first.submit("a long file", ["long"])
    wait_for_steps(first, 70)
    number = 0
    while not long.done():
        number += 1
        # ten times as long as a step of the file without a pause
        values(second.submit(f"clip {number}", ["whole"]))
    assert number < 40, "not a step for each clip: 80 of them were left"


@pytest.mark.parametrize("num_long", [1, 2, 3, 5])
def test_newcomers_have_a_head_start_however_many_long_files_there_are(num_long: int) -> None:
    shared = FairSlots()
    owners = [f"long file {i}" for i in range(num_long)]
    for _ in range(60):
        owner = min(owners, key=shared.tag)
        with shared.slot(lambda owner=owner: owner, False) as slot:
            slot.since -= 1.0  # as if a second had gone by
    assert all(shared.tag(owner) > shared.tag("clip") + 1 for owner in owners)


# -- background work -----------------------------------------------------------------------------


def test_background_work_fills_up_the_batches_of_others(make: Any) -> None:
    model, batcher = make(4)
    block(model, batcher)
    job, other_job = (Work(name, 60, background=True) for name in ("job", "other job"))
    waiting = job.submit(batcher, ["job 1", "job 2", "job 3"])
    waiting += other_job.submit(batcher, ["other 1"])
    waiting += Work("clip", 60).submit(batcher, ["clip 1", "clip 2"])
    waiting += Work("other clip", 60).submit(batcher, [("other key", 1)])
    model.gate.set()
    values(waiting)
    assert model.batches[1:] == [
        ["clip 1", "clip 2", "job 1", "other 1"],
        [("other key", 1)],
        ["job 2", "job 3"],
    ]


def test_background_work_makes_way_for_others_however_heavy(
    layered: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of its batch, on the same model and on another one."""
    monkeypatch.setattr(slots, "LEEWAY_S", 1000.0)  # else, nobody is heavy
    first, second, _ = layered
    [job] = Work("job", 60, background=True).submit(first, ["long"])
    wait_for_steps(first, 5)
    later = Work("later job", 60, background=True).submit(first, ["later"])
    for model in (second, first):
        assert values(Work("file", 60).submit(model, ["x"])) == ["x"]
        assert not job.done()
    values([job, *later])
    assert first.model.batches == [["x"], ["long"], ["later"]]


def test_background_work_shares_no_batch_on_a_cpu() -> None:
    shared = FairSlots()
    job, other_job = (Work(name, 60, background=True) for name in ("job", "other job"))
    assert shared.may_share(job, other_job)
    assert not shared.may_share(job, "clip")
    assert not shared.may_share("clip", job)


def saturate(batcher: Batcher[Any, Any], until: Callable[[], bool]) -> None:
    """Keep up to three requests at the model until then."""
    clips: list[Future[Any]] = []
    number = 0
    begun = time.monotonic()
    while not until():
        number += 1
        clips += batcher.submit(f"clip {number}", ["x"])
        if len(clips) > 2:
            clips.pop(0).result(60)
        assert time.monotonic() - begun < 60
    values(clips)


@pytest.mark.parametrize("shared", [FairSlots(1), None], ids=["CPU", "GPU"])
def test_background_work_is_not_put_off_for_ever(
    shared: FairSlots | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "PATIENCE_S", 0.5)
    batcher = Batcher("slow", lambda: Slow(1), slots=shared)
    try:
        job = Work("job", 60, background=True)
        jobs = job.submit(batcher, ["one", "two", "three"])
        saturate(batcher, jobs[-1].done)
        starts = [future.started for future in jobs]
        assert min(b - a for a, b in pairwise([jobs[0].queued, *starts])) > 0.4, "one at a time"
    finally:
        batcher.close()


@pytest.mark.parametrize("layered", [1, 2], indirect=True)
def test_a_model_can_close_while_a_batch_pauses(layered: Any) -> None:
    first, second, _ = layered
    [long] = first.submit("a long file", ["long"])
    wait_for_steps(first)
    clips = second.submit("clip", ["x"] * 5) + first.submit("clip", ["x"] * 5)
    first.close()
    assert long.result(0) == "long"
    for future in clips:
        future.exception(10)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_model_that_dies_or_closes_gives_up_its_turn(
    pair: tuple[Batcher[Any, Any], Batcher[Any, Any]],
) -> None:
    first, second = pair
    with pytest.raises(ModelUnavailable):
        first.submit("a", ["exit"])[0].result(60)
    long = second.submit("long", range(50))
    third = Batcher("three", lambda: Slow(1), slots=first._slots)
    queued = third.submit("b", range(20))
    third.close()
    assert sum(future.exception(10) is not None for future in queued) > 0
    assert values(long) == list(range(50))


# -- several workers -----------------------------------------------------------------------------


class Paired(Echo):
    """Two calls at a time, or none ends."""

    def __init__(self) -> None:
        super().__init__(num_workers=2)
        self.both = threading.Barrier(2, timeout=30)

    def run(self, items: Sequence[Any]) -> list[Any]:
        self.both.wait()
        return super().run(items)


@pytest.fixture
def paired() -> Iterator[tuple[Paired, Batcher[Any, Any]]]:
    batcher: Batcher[Any, Any] = Batcher("paired", Paired)
    yield cast("Paired", batcher.model), batcher
    batcher.close()


def test_two_workers_share_what_waits(paired: tuple[Paired, Batcher[Any, Any]]) -> None:
    model, batcher = paired
    for _ in range(8):
        assert values(batcher.submit("a", list("1234"))) == list("1234")
    assert sorted(map(len, model.batches[-2:])) == [2, 2]
    assert values(batcher.submit("a", ["1"]) + batcher.submit("b", ["2"])) == ["1", "2"]
    batcher.close()
    assert model.closed
    assert len(model.threads) == 2
    assert threading.get_ident() not in model.threads


def test_one_of_two_calls_fails_alone(paired: tuple[Paired, Batcher[Any, Any]]) -> None:
    _, batcher = paired
    bad, good = batcher.submit("a", ["poison", "x"])
    with pytest.raises(StageFailed):
        bad.result(60)
    assert good.result(60) == "x"
    assert batcher.alive


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_model_dies_with_one_of_its_threads(make: Any) -> None:
    """What the other one works on comes to its end first."""
    model, batcher = make(1, num_workers=2)
    running = block(model, batcher)
    model.entered.clear()
    [fatal] = batcher.submit("a", ["exit"])
    assert model.entered.wait(10)
    model.gate.set()
    assert running.result(60) == "block"
    with pytest.raises(ModelUnavailable):
        fatal.result(60)
    eventually(lambda: model.closed)
    assert not batcher.alive


def test_a_machine_without_room_for_a_second_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    start, num_started = threading.Thread.start, 0

    def start_one(thread: threading.Thread) -> None:
        nonlocal num_started
        num_started += 1
        if num_started > 1:
            raise RuntimeError("can't start new thread")
        start(thread)

    model = Echo(num_workers=2)
    monkeypatch.setattr(threading.Thread, "start", start_one)
    with pytest.raises(RuntimeError, match="can't start"):
        Batcher("echo", lambda: model)
    assert num_started == 2
    assert model.closed


def test_a_call_that_hangs_is_seen_beside_others(make: Any) -> None:
    model, batcher = make(1, num_workers=2)
    begun = time.monotonic()
    hangs = block(model, batcher)
    time.sleep(0.2)
    assert 0.2 <= batcher.busy_s <= time.monotonic() - begun
    model.gate.set()
    hangs.result(60)
    eventually(lambda: batcher.busy_s == 0)


# -- sizes of batches ----------------------------------------------------------------------------


def best_size(seconds: Callable[[int], float], max_size: int = 16) -> int:
    sizer = BatchSizer(max_size)
    for _ in range(20):
        sizer.observe(sizer.size, seconds(sizer.size))
    return sizer.size


def test_quick_batches_stay_whole() -> None:
    assert best_size(lambda n: 0.05 * n) == 16


def test_slow_batches_are_halved_where_that_costs_nothing() -> None:
    assert best_size(lambda n: 0.2 * n) == 4
    assert best_size(lambda n: 5.0 * n) == 1


def test_batches_that_pay_off_stay_whole_however_slow() -> None:
    assert best_size(lambda n: 3.0 + 0.01 * n) == 16
    assert best_size(lambda n: 0.2 + 0.1 * n) == 8  # 8 cost 11 % more for each than 16 do
    assert best_size(lambda n: 0.5 + 0.1 * n) == 16  # here 24 %


def test_odd_sizes_and_partial_batches() -> None:
    assert best_size(lambda n: 0.2 * n, max_size=6) in (3, 6)
    assert best_size(lambda n: 0.01 * n, max_size=6) == 6
    assert best_size(lambda n: 0.01 * n, max_size=1) == 1
    sizer = BatchSizer(16)
    for _ in range(3):
        sizer.observe(15, 30.0)
    assert sizer.size == 1, "a partial batch says nothing about whole ones"


def test_nobody_waits_long_for_the_first_batches() -> None:
    """Sizes are tried from a small one on, so that a slow machine shows itself early."""
    sizer, tried = BatchSizer(16), []
    for _ in range(8):
        tried.append(sizer.size)
        sizer.observe(sizer.size, 0.8 * sizer.size)
    assert tried == [1, 1, 2, 1, 1, 1, 1, 1]


def test_a_slow_start_is_forgotten() -> None:
    sizer = BatchSizer(16)
    sizer.observe(1, 30.0)  # warming up
    for size in (1, 2, 4):
        assert sizer.size == size
        sizer.observe(size, 0.1 + 0.03 * size)
    for _ in range(5):
        sizer.observe(8, 4.0)  # the machine was busy
    assert sizer.size == 4
    for _ in range(60):
        sizer.observe(sizer.size, 0.1 + 0.03 * sizer.size)
    assert sizer.size == 16


def test_what_did_not_fit_into_memory_is_not_tried_again() -> None:
    sizer = BatchSizer(16)
    sizer.observe(4, 0.1)
    sizer.shrink(3)
    assert sizer.size == 1
    for _ in range(60):
        sizer.observe(sizer.size, 0.01)
        assert sizer.size == 1


class Reader(Echo):
    """Takes its time for what is long, by a clock of its own."""

    now_s = 0.0

    def run(self, items: Sequence[Any]) -> list[Any]:
        Reader.now_s += 0.001 + 0.02 * sum(seconds > 15 for seconds in items)
        return super().run(items)


def test_what_is_long_is_batched_apart_from_what_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was learned with clips must not make batches of what takes ten times as long."""
    monkeypatch.setattr(sizing, "TARGET_S", 0.05)
    monkeypatch.setattr(recovery, "time", SimpleNamespace(monotonic=lambda: Reader.now_s))
    batcher = Batcher("reader", lambda: Reader(16))
    model = batcher.model
    try:
        for _ in range(10):
            values(batcher.submit("clips", [3.0] * 16))
        for _ in range(5):
            values(batcher.submit("long", [30.0] * 16))
        assert max(len(batch) for batch in model.batches if 30.0 not in batch) == 16
        assert max(len(batch) for batch in model.batches if 30.0 in batch) <= 4, "was tried"
    finally:
        batcher.close()


def test_batches_that_worked_are_told() -> None:
    told: list[tuple[int, int]] = []
    batcher = Batcher(
        "echo", lambda: Echo(4), observe=lambda items, room, seconds: told.append((items, room))
    )
    model = batcher.model
    for _ in range(8):  # until its batches have grown
        values(batcher.submit("warming up", ["warm"] * 4))
    block(model, batcher)
    futures = batcher.submit("a", ["1", "2", "3", "4", "poison", "6"])
    assert futures[0].started is None
    model.gate.set()
    assert values(futures[:4]) == list("1234")
    with pytest.raises(StageFailed):
        futures[4].result(60)
    assert values(futures[5:]) == ["6"]
    batcher.close()
    assert told[-2:] == [(4, 4), (1, 4)], "of the last batch only what worked alone"
    assert futures[0].started is not None
    assert futures[0].queued <= futures[0].started
