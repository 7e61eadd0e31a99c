"""ModelStore: stampedes, failures, eviction, idleness; and what the next caller sees."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from app.domain.errors import ModelUnavailable, ShuttingDown
from app.engine.model import ModelKey, ModelKind
from app.engine.store import ModelStore, StoreObserver
from tests.support.scripted import kill_thread
from tests.support.waiting import eventually


def key(name: str) -> ModelKey:
    return ModelKey(ModelKind.RECOGNIZER, name, name)


class Weights:
    def __init__(self, memory_bytes: int = 10) -> None:
        self.memory_bytes = memory_bytes
        self.alive = True
        self.busy_s = 0.0

    def close(self) -> None:
        assert self.alive, "unloaded twice"
        self.alive = False


class Shelf:
    """Loads models, counts, and fails on demand."""

    def __init__(self) -> None:
        self.loads: list[str] = []
        self.fail: Exception | None = None
        self.sizes: dict[str, int] = {}
        self.delay_s = 0.0

    def __call__(self, wanted: ModelKey) -> Weights:
        self.loads.append(wanted.name)
        time.sleep(self.delay_s)
        if self.fail is not None:
            raise self.fail
        return Weights(self.sizes.get(wanted.name, 10))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def open_store(shelf: Shelf) -> Iterator[Callable[..., ModelStore]]:
    stores: list[ModelStore] = []

    def create(max_models: int = 8, **options: Any) -> ModelStore:
        store = ModelStore(shelf, max_models, **options)
        stores.append(store)
        return store

    yield create
    for store in stores:
        store.close()


def names(store: ModelStore) -> set[str]:
    return {k.name for k in store.loaded()}


def use(store: ModelStore, name: str) -> Any:
    with store.lease(key(name)) as model:
        return model


def test_a_stampede_loads_once(open_store: Any, shelf: Shelf) -> None:
    store = open_store()
    shelf.delay_s = 0.1
    with ThreadPoolExecutor(16) as pool:
        models = list(pool.map(lambda _: use(store, "a"), range(16)))
    assert shelf.loads == ["a"]
    assert len({id(model) for model in models}) == 1


def test_a_failed_load_reaches_all_who_wait_and_leaves_no_entry(
    open_store: Any, shelf: Shelf
) -> None:
    store = open_store()
    shelf.delay_s, shelf.fail = 0.1, OSError("/secret/path is not there")

    def attempt(_: int) -> str:
        with pytest.raises(ModelUnavailable) as failure:
            use(store, "a")
        return str(failure.value)

    with ThreadPoolExecutor(8) as pool:
        messages = set(pool.map(attempt, range(8)))
    assert len(messages) == 1
    assert "/secret" not in messages.pop()
    assert names(store) == set()
    shelf.fail = None
    assert use(store, "a").alive
    assert shelf.loads == ["a", "a"]


def test_what_failed_slowly_rests(open_store: Any, shelf: Shelf) -> None:
    """A broken model that takes a minute to fail must not take it from each request."""
    clock = Clock()

    def slowly(wanted: ModelKey) -> Weights:
        clock.now += 60
        return shelf(wanted)

    store = open_store(clock=clock)
    store._load = slowly
    shelf.fail = OSError("broken")
    for wait_s in (600, 600):
        with pytest.raises(ModelUnavailable):
            use(store, "a")
        with pytest.raises(ModelUnavailable) as failure:
            use(store, "a")
        assert failure.value.retry_after_s == wait_s
        assert store.missing()[0].endswith("Next try in 600 s.")
        clock.now += wait_s
    assert shelf.loads == ["a", "a"]
    shelf.fail = None
    assert use(store, "a").alive
    assert store.missing() == []


def test_the_least_recently_used_goes_first(open_store: Any) -> None:
    store = open_store(2)
    first = use(store, "a")
    use(store, "b")
    use(store, "a")
    use(store, "c")
    assert names(store) == {"a", "c"}
    assert first.alive
    use(store, "d")
    assert names(store) == {"c", "d"}
    assert not first.alive


def test_what_is_in_use_is_never_unloaded(open_store: Any) -> None:
    store = open_store(1)
    with store.lease(key("a")) as a:
        with store.lease(key("b")) as b:
            assert a.alive
            assert b.alive
            assert names(store) == {"a", "b"}
        # the bound holds again as soon as something is free
        assert names(store) == {"a"}
        assert not b.alive
        assert a.alive
    assert names(store) == {"a"}


def test_the_memory_budget_holds(open_store: Any, shelf: Shelf) -> None:
    shelf.sizes = {"a": 40, "b": 40, "c": 40}
    store = open_store(8, max_bytes=100)
    a = use(store, "a")
    use(store, "b")
    use(store, "c")
    assert names(store) == {"b", "c"}
    assert not a.alive


def test_a_model_over_the_whole_budget_is_refused(open_store: Any, shelf: Shelf) -> None:
    shelf.sizes = {"huge": 200 << 20, "a": 10}
    store = open_store(8, max_bytes=100 << 20)
    with pytest.raises(ModelUnavailable, match="200 MB"):
        use(store, "huge")
    assert use(store, "a").alive


def test_idle_models_are_unloaded_and_come_back(open_store: Any, shelf: Shelf) -> None:
    store = open_store(8, idle_timeout_s=0.1)
    model = use(store, "a")
    eventually(lambda: not model.alive)
    assert use(store, "a").alive
    assert shelf.loads == ["a", "a"]


def test_idleness_counts_from_the_release(open_store: Any) -> None:
    clock = Clock()
    store = open_store(8, idle_timeout_s=10, clock=clock)
    with store.lease(key("a")) as a:
        clock.now = 100
        use(store, "b")  # wakes the reaper
        time.sleep(0.05)
        assert a.alive
    assert a.alive
    clock.now = 109
    use(store, "b")
    time.sleep(0.05)
    assert a.alive
    clock.now = 111
    use(store, "b")
    eventually(lambda: not a.alive)


def test_a_model_whose_thread_died_is_replaced(open_store: Any, shelf: Shelf) -> None:
    store = open_store()
    broken = use(store, "a")
    broken.alive = False
    broken.close = lambda: None
    assert use(store, "a") is not broken
    assert shelf.loads == ["a", "a"]


def test_a_lease_during_an_unload_waits_and_loads_anew(open_store: Any, shelf: Shelf) -> None:
    store = open_store()
    model = use(store, "a")
    unloading, go_on = threading.Event(), threading.Event()

    def slow_close() -> None:
        unloading.set()
        assert go_on.wait(10)
        model.alive = False

    model.close = slow_close
    evicting = threading.Thread(target=store.evict_idle)
    evicting.start()
    assert unloading.wait(10)
    with ThreadPoolExecutor(1) as pool:
        leased = pool.submit(use, store, "a")
        time.sleep(0.05)
        assert not leased.done()
        assert shelf.loads == ["a"]  # no second copy beside the first
        go_on.set()
        assert leased.result(10) is not model
    evicting.join(10)


def test_room_is_made_before_the_next_try(open_store: Any) -> None:
    store = open_store()
    with store.lease(key("used")) as used:
        idle = use(store, "idle")
        store.evict_idle()
        assert not idle.alive
        assert used.alive
        assert names(store) == {"used"}


def test_idle_models_can_be_dropped_from_a_models_own_thread(open_store: Any) -> None:
    """Out of memory in a batch that nobody waits for any more: the model itself is idle then."""
    store = open_store()
    model = use(store, "a")
    done = threading.Event()
    own = threading.Thread(target=lambda: (store.evict_idle(), done.set()))

    def close() -> None:
        own.join(5)  # as a Batcher joins its thread
        model.alive = False

    model.close = close
    own.start()
    assert done.wait(5)
    deadline = time.monotonic() + 5
    while store.loaded() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert use(store, "a") is not model


def test_a_dead_model_is_replaced_while_somebody_still_holds_it(
    open_store: Any, shelf: Shelf
) -> None:
    store = open_store()
    with store.lease(key("a")) as broken:
        broken.alive = False
        broken.close = lambda: None
        assert use(store, "a") is not broken
    assert shelf.loads == ["a", "a"]
    assert names(store) == {"a"}


def test_a_dead_model_is_told_apart_until_it_is_loaded_anew(open_store: Any) -> None:
    store = open_store()
    broken = use(store, "a")
    assert (names(store), store.dead()) == ({"a"}, [])
    broken.alive = False
    broken.close = lambda: None
    assert (names(store), store.dead()) == (set(), [key("a")])
    use(store, "a")
    assert (names(store), store.dead()) == ({"a"}, [])


def test_the_call_that_takes_longest_is_known(open_store: Any) -> None:
    store = open_store()
    assert store.longest_call() is None
    use(store, "a")
    use(store, "b").busy_s = 5.0
    assert store.longest_call() == (5.0, key("b"))


def test_a_model_that_cannot_be_unloaded_stops_nobody(open_store: Any, shelf: Shelf) -> None:
    """Neither the request that makes room nor the thread that unloads."""
    store = open_store(1)

    def fail() -> None:
        raise RuntimeError("no")

    use(store, "a").close = fail
    assert use(store, "b").alive
    assert names(store) == {"b"}
    use(store, "b").close = fail
    store.evict_idle()
    assert names(store) == set()
    assert store._reaper.is_alive()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_thread_that_unloads_is_replaced_when_it_dies(open_store: Any) -> None:
    store = open_store()
    use(store, "a")
    kill_thread(store._reaper)
    store.evict_idle()  # nobody is there to do it
    assert not store._reaper.is_alive()
    assert names(store) == {"a"}
    store.check()
    store.evict_idle()
    assert names(store) == set()


def test_a_closed_store_lends_nothing(open_store: Any) -> None:
    store = open_store()
    model = use(store, "a")
    store.close()
    assert not model.alive
    with pytest.raises(ShuttingDown):
        use(store, "a")


def test_what_happens_to_models_is_told(open_store: Any, shelf: Shelf) -> None:
    told: list[str] = []
    observer = StoreObserver(
        loaded=lambda k, seconds: told.append(f"loaded {k.name} {seconds:.0f}"),
        failed=lambda k: told.append(f"failed {k.name}"),
        unloaded=lambda k: told.append(f"unloaded {k.name}"),
    )
    store = open_store(max_models=1, max_bytes=100, observer=observer)
    use(store, "a")
    use(store, "b")
    shelf.fail = OSError("no hub")
    with pytest.raises(ModelUnavailable):
        use(store, "c")
    shelf.fail = None
    shelf.sizes["huge"] = 1000
    with pytest.raises(ModelUnavailable):
        use(store, "huge")
    assert [line for line in told if "loaded" not in line] == ["failed c", "failed huge"]
    assert told[:3] == ["loaded a 0", "unloaded a", "loaded b 0"]
    use(store, "d")
    assert told[-1] == "loaded d 0"


def test_a_model_stays_for_those_who_waited_for_it(shelf: Shelf) -> None:
    """Another request ends after the load, before the one that waited has its lease."""
    store = ModelStore(shelf, max_models=1)
    other = store.lease(key("a"))
    other.__enter__()

    def wait(loaded: Future[None]) -> None:
        loaded.result()
        other.__exit__(None, None, None)

    with store.lease(key("b"), wait):
        assert shelf.loads == ["a", "b"]
    store.close()


def test_a_model_that_nobody_waited_for_makes_room(shelf: Shelf) -> None:
    store = ModelStore(shelf, max_models=1)

    def give_up(loaded: Future[None]) -> None:
        loaded.result()
        raise ShuttingDown

    with store.lease(key("a")):
        with pytest.raises(ShuttingDown), store.lease(key("b"), give_up):
            pass
        eventually(lambda: list(store.loaded()) == [key("a")])
    store.close()
