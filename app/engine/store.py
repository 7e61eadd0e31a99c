"""ModelStore: loads each model once, leases it, evicts it when idle or over the budget."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass

from app.domain.errors import ModelUnavailable, ServiceError, ShuttingDown
from app.engine.failures import Failures
from app.engine.loaded_models import Entry, LoadedModel, LoadedModels
from app.engine.loading import Loading, Wait, load_within
from app.engine.model import ModelKey

log = logging.getLogger(__name__)

MAX_RETRY_S = 60.0  # what those who gave up waiting for a load are told to wait
ABANDONED_RETRY_S = 10
HAND_OVER_S = 1.0  # those who waited for a model are woken at once
EVICTION_WAIT_S = 2.0  # the next try needs the memory of the dropped models


@dataclass(frozen=True, slots=True)
class LoadWaits:
    """How long a request waits for a model, while loading goes on without it. `retry_s`: for
    another try to fetch a model that the request can do without.
    """

    load_s: float = 300.0
    retry_s: float = 10.0


@dataclass(frozen=True, slots=True)
class StoreObserver:
    """Callbacks for what happens to models."""

    loaded: Callable[[ModelKey, float], None] = lambda key, seconds: None
    failed: Callable[[ModelKey], None] = lambda key: None
    unloaded: Callable[[ModelKey], None] = lambda key: None


@dataclass(frozen=True, slots=True)
class _Try:
    """One attempt to load a model: how many leases it starts with, and whether a failure makes the
    next interval longer."""

    num_leases: int = 1
    grow: bool = True


class ModelStore:
    """The only owner of loaded models.

    While every model is in use, the store exceeds its limits rather than refuse a request, and
    unloads the surplus as soon as it is released.
    """

    def __init__(
        self,
        load: Callable[[ModelKey], LoadedModel],
        max_models: int,
        max_bytes: int = 0,
        idle_timeout_s: float = 0,
        waits: LoadWaits = LoadWaits(),
        clock: Callable[[], float] = time.monotonic,
        observer: StoreObserver = StoreObserver(),
    ) -> None:
        """`max_bytes` and `idle_timeout_s`: 0 means no limit."""
        self._load = load
        self._max_bytes = max_bytes or math.inf
        self._waits = waits
        self._clock = clock
        self._observer = observer
        self._changed = threading.Condition()
        self._models = LoadedModels(max_models, self._max_bytes, idle_timeout_s or math.inf)
        self._loading: dict[ModelKey, Loading] = {}
        self._failures = Failures(clock)
        self._closed = False
        self._purging = False
        self._reaper = self._start_reaper()

    def _start_reaper(self) -> threading.Thread:
        reaper = threading.Thread(target=self._reap, name="model-reaper", daemon=True)
        reaper.start()
        return reaper

    def loaded(self) -> list[ModelKey]:
        with self._changed:
            entries = self._models.items()
        return [key for key, entry in entries if entry.model.alive and not entry.closing]

    def dead(self) -> list[ModelKey]:
        """Models whose thread died; the next lease loads them again."""
        with self._changed:
            entries = self._models.items()
        return [key for key, entry in entries if not (entry.model.alive or entry.closing)]

    def missing(self) -> list[str]:
        """Sentences about the models whose last load failed."""
        with self._changed:
            return self._failures.sentences()

    def longest_call(self) -> tuple[float, ModelKey] | None:
        """The longest current call of a model: (seconds so far, model)."""
        with self._changed:
            calls = [(entry.model.busy_s, key) for key, entry in self._models.items()]
        return max(calls, key=lambda call: call[0], default=None)

    def check(self) -> None:
        """Restart the store's own thread if it died. Call it now and then."""
        if not (self._reaper.is_alive() or self._closed):
            log.error("the thread that unloads models died; starting a new one")
            self._reaper = self._start_reaper()

    @contextmanager
    def lease(
        self,
        key: ModelKey,
        wait: Wait = Future.result,
        try_at_once: bool = False,
    ) -> Iterator[LoadedModel]:
        """The model, loaded if necessary and kept until the block ends.

        `wait` waits for the load, only as long as this caller wants: its future is this caller's
        own, so that it may be cancelled. `try_at_once`: try even if the
        last try has just failed, and wait to the end.

        Raises:
            ModelUnavailable: it cannot be loaded, or not soon. Failed downloads are tried again
                after growing intervals, what failed slowly after a rest, everything else by the
                next lease.
            ShuttingDown: the store is closed.
        """
        entry = self._acquire(key, wait, try_at_once)
        try:
            yield entry.model
        finally:
            self._release(entry)

    def _acquire(self, key: ModelKey, wait: Wait, try_at_once: bool) -> Entry:
        while True:
            with self._changed:
                if self._closed:
                    raise ShuttingDown
                entry = self._models.get(key)
                if entry is not None and entry.closing:
                    self._changed.wait()
                    continue
                if entry is not None and entry.model.alive:
                    entry.num_leases += 1
                    if entry.awaited:
                        entry.awaited = False
                        self._changed.notify_all()
                    return entry
                if entry is not None:  # its thread died, as its other users will notice
                    self._models.remove(key, entry)
                loading = self._loading.get(key)
                if loading is None:
                    if not try_at_once:
                        self._failures.check(key)
                    loading = self._loading[key] = Loading()
                    if try_at_once:
                        break
                    self._load_aside(key, loading)
            loading.wait(wait)  # a failure reaches all who wait
        return self._load_entry(key, loading, _Try(grow=not try_at_once))

    def _load_aside(self, key: ModelKey, loading: Loading) -> None:
        """Load in a thread that no caller is bound to: those who wait may give up before."""
        again = key.optional and self._failures.is_missing(key)
        patience_s = min(self._waits.retry_s, self._waits.load_s) if again else self._waits.load_s

        def load() -> None:
            try:
                with loading.settled_after(patience_s, _still_loading(key, patience_s)):
                    entry = self._load_entry(key, loading, _Try(num_leases=0))
                self._hand_over(entry)
            except ServiceError:
                pass  # those who wait are told
            except RuntimeError as error:
                self._abandon(key, loading, error)

        run = copy_context().run  # what is logged belongs to the request that began
        try:
            threading.Thread(target=run, args=(load,), name="load", daemon=True).start()
        except RuntimeError as error:
            self._abandon(key, loading, error)

    def _abandon(self, key: ModelKey, loading: Loading, error: RuntimeError) -> None:
        """There is no thread that could load the model."""
        log.error("the %s %s cannot be loaded: %s", key.kind, key.name, error)
        with self._changed:
            if self._loading.get(key) is loading:
                del self._loading[key]
        text = f"The {key.kind} {key.short_name} cannot be loaded now; try again later."
        loading.settle(ModelUnavailable(text, ABANDONED_RETRY_S))

    def _load_entry(self, key: ModelKey, loading: Loading, attempt: _Try) -> Entry:
        try:
            self._shrink(num_coming=1)
            entry = self._try_load(key, attempt)
            with self._changed:
                if not self._closed:
                    self._models.add(key, entry)
                del self._loading[key]
                self._failures.forget(key)
        except BaseException as error:
            self._observer.failed(key)
            with self._changed:
                self._loading.pop(key, None)
            loading.settle(error)
            raise
        loading.settle()
        if self._closed:
            entry.model.close()
            raise ShuttingDown
        self._shrink()
        return entry

    def _hand_over(self, entry: Entry) -> None:
        """If all who waited have given up, the model is like any other."""
        with self._changed:
            self._changed.wait_for(lambda: not entry.awaited or self._closed, HAND_OVER_S)
            entry.awaited = False
            self._changed.notify_all()
        self._shrink()

    def _try_load(self, key: ModelKey, attempt: _Try) -> Entry:
        started = self._clock()
        try:
            model = load_within(self._load, key, self._max_bytes)
        except ModelUnavailable as error:
            with self._changed:
                cause = error.__cause__ or error
                self._failures.add(key, error, cause, self._clock() - started, attempt.grow)
                failure = self._failures.error(key)
            raise failure from error
        seconds = self._clock() - started
        self._observer.loaded(key, seconds)
        log.info("loaded the %s %s in %.1f s", key.kind, key.name, seconds)
        num_leases = attempt.num_leases
        return Entry(model, self._clock(), num_leases, awaited=not num_leases)

    def _release(self, entry: Entry) -> None:
        with self._changed:
            entry.num_leases -= 1
            entry.last_used = self._clock()
            self._changed.notify_all()
        self._shrink()

    def _shrink(self, num_coming: int = 0) -> None:
        """Evict idle models, the least recently used first, until the limits hold."""
        while True:
            with self._changed:
                surplus = self._models.surplus(num_coming)
                if surplus is None:
                    return
                surplus[1].closing = True
            self._evict(*surplus)

    def _evict(self, key: ModelKey, entry: Entry) -> None:
        """Drop an entry that is marked as closing; it stays listed until its memory is free."""
        try:
            entry.model.close()
        # A library's error must neither fail a request that only makes room nor end the reaper.
        except Exception:
            log.exception("unloading the %s %s failed", key.kind, key.name)
        finally:
            with self._changed:
                self._models.remove(key, entry)
                self._changed.notify_all()
        self._observer.unloaded(key)
        log.info("unloaded the %s %s", key.kind, key.name)

    def _reap(self) -> None:
        """Unload models that were idle for too long. Sleeps until the next one is due."""
        while True:
            with self._changed:
                if self._closed:
                    return
                oldest = self._models.oldest_idle()
                due_s = 0.0 if oldest and self._purging else self._models.due_s(self._clock())
                if oldest is None or due_s > 0:
                    self._purging = False
                    self._changed.wait(None if math.isinf(due_s) else due_s)
                    continue
                oldest[1].closing = True
            self._evict(*oldest)

    def evict_idle(self) -> None:
        """Have all idle models unloaded and wait a little for it.

        Safe in a model's thread. Such a thread must not close models itself: two of them would
        wait for each other. If its own model is idle, the wait ends without it.
        """
        with self._changed:
            self._purging = True
            self._changed.notify_all()
            self._changed.wait_for(self._nothing_idle, timeout=EVICTION_WAIT_S)

    def _nothing_idle(self) -> bool:
        return all(entry.num_leases > 0 for _, entry in self._models.items())

    def close(self) -> None:
        """Unload everything, even models in use: their users then get ModelUnavailable."""
        with self._changed:
            self._closed = True
            entries = [(key, entry) for key, entry in self._models.items() if not entry.closing]
            for _, entry in entries:
                entry.closing = True
            self._changed.notify_all()
        for key, entry in entries:
            self._evict(key, entry)
        self._reaper.join()


def _still_loading(key: ModelKey, waited_s: float) -> ModelUnavailable:
    text = f"The {key.kind} {key.short_name} is still being loaded; try again later."
    return ModelUnavailable(text, math.ceil(min(waited_s, MAX_RETRY_S)))
