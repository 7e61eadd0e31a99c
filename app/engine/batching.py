"""Batcher: the work of many requests -> one call of a model. Owns the model's thread.

A model is loaded, called and dropped in one thread, its own. Requests take turns item by item, so
that a two-hour file does not starve a ten-second one; a request that is alone gets whole batches.
Whose turn it is where several models share a CPU, `turns.py` tells; there a long call pauses now
and then, for a clip to go first.
Nothing waits for a batch to fill: what has piled up while the device was busy is the next batch.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import Future
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import cachetools

from app.domain.errors import (
    ModelUnavailable,
    ServiceError,
    StageFailed,
)
from app.engine.model import BatchModel
from app.engine.pauses import pauses
from app.engine.sizing import BatchSizer
from app.engine.slots import FreeForAll, Slot, Slots

log = logging.getLogger(__name__)

MODEL_GONE = "The model was unloaded; try again."
MODEL_FAILED = "A model failed on this recording."
NO_MEMORY = "The device has too little free memory for this recording; try again later."

MIN_LENGTH_S = 4.0  # whatever is shorter takes about as long

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")
Model = TypeVar("Model", bound=BatchModel[Any, Any])
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Recovery:
    """What to do when a device is out of memory, or gone."""

    is_out_of_memory: Callable[[BaseException], bool]
    free_memory: Callable[[], None]  # drop what nobody uses
    is_fatal: Callable[[BaseException], bool] = lambda error: False  # the device is lost
    give_up: Callable[[], None] = lambda: None  # end the process, for another to take its place


NO_RECOVERY = Recovery(lambda error: isinstance(error, MemoryError), lambda: None)


class TaskFuture(Future[Any]):
    """Knows when its item was queued, and when a batch took it."""

    def __init__(self) -> None:
        super().__init__()
        self.queued = time.monotonic()
        self.started: float | None = None

    def set_running_or_notify_cancel(self) -> bool:
        runs = super().set_running_or_notify_cancel()
        if runs:
            self.started = time.monotonic()
        return runs


@dataclass(slots=True, eq=False)  # compared by identity: items hold arrays
class _Task:
    owner: Hashable
    item: Any
    key: Hashable
    length: int  # seconds of audio as a power of two: what takes about as long
    future: TaskFuture
    context: Context = field(default_factory=copy_context)  # the request's, for the log


class Batcher(Generic[Model]):
    """One model with its thread and its queue."""

    def __init__(
        self,
        name: str,
        load: Callable[[], Model],
        recovery: Recovery = NO_RECOVERY,
        slots: Slots | None = None,
        observe: Callable[[int, int, float], None] = lambda num_items, room, seconds: None,
        ahead: bool = False,
    ) -> None:
        """Load the model in its thread and wait for it. `turns` are those of its device; `observe`
        hears of each batch that worked: its items, how many it had room for, its seconds. `ahead`:
        of one owner's work this model's goes first.

        Raises:
            Whatever `load` raises.
        """
        self._recovery = recovery
        self._slots = slots or FreeForAll()
        self._observe = observe
        self._ahead = ahead
        # by batch key and length: what is longer, or decoded otherwise, takes another time
        self._sizers: cachetools.LRUCache[Hashable, BatchSizer] = cachetools.LRUCache(128)
        self._changed = threading.Condition()
        self._queues: OrderedDict[Hashable, deque[_Task]] = OrderedDict()
        self._closing = False
        # no longer queued; more than one where a batch pauses for another. Empty between calls.
        self._batches: list[list[_Task]] = []
        self._call_started: float | None = None
        self._paused_s = 0.0
        self._model: Model | None = None
        loaded: Future[Model] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(load, loaded), name=name, daemon=True
        )
        self._thread.start()
        try:
            self._model = loaded.result()
        except BaseException:
            self._thread.join()
            raise

    @property
    def model(self) -> Model:
        """For what may be called in any thread.

        Raises:
            ModelUnavailable: the model was unloaded.
        """
        if self._model is None or not self.alive:
            raise ModelUnavailable(MODEL_GONE, retry_after_s=1)
        return self._model

    @property
    def memory_bytes(self) -> int:
        return self.model.memory_bytes

    @property
    def alive(self) -> bool:
        """Whether the thread still takes work."""
        return self._thread.is_alive() and not self._closing

    @property
    def busy_s(self) -> float:
        """How long the model's present call takes already, since its last pause; 0 while there is
        none."""
        started = self._call_started
        return 0.0 if started is None else time.monotonic() - started

    def submit(
        self, owner: Hashable, items: Iterable[Any], first: bool = False
    ) -> list[TaskFuture]:
        """Queue the items behind the owner's own, or before them; owners are served in turn."""
        model = self.model
        tasks = [
            _Task(owner, item, model.batch_key(item), _length(model.audio_s(item)), TaskFuture())
            for item in items
        ]
        with self._changed:
            _ = self.model  # still there?
            queue = self._queues.setdefault(owner, deque())
            if first:
                queue.extendleft(reversed(tasks))
            else:
                queue.extend(tasks)
            self._changed.notify()
        return [task.future for task in tasks]

    def close(self) -> None:
        """Fail what is queued, drop the model and wait until its memory is free."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    # -- the model's thread ----------------------------------------------------------------------

    def _run(self, load: Callable[[], Model], loaded: Future[Model]) -> None:
        try:
            model = load()
        except BaseException as error:  # noqa: BLE001 - it travels to whoever asked for the model
            loaded.set_exception(error)
            return
        loaded.set_result(model)
        try:
            while self._wait_for_work():
                with self._slots.slot(self._first_owner, self._ahead) as slot:
                    self._serve(model, slot)
        # Not only faults of our own: libraries raise SystemExit, too.
        except BaseException:
            log.critical("the thread of the %s died", self._thread.name, exc_info=True)
        finally:
            self._closing = True
            for batch in self._batches:  # whatever ended the thread, nobody may wait for ever
                _fail(batch)
            self._batches = []
            self._fail_queued()
            self._model = None
            model.close()

    def _wait_for_work(self) -> bool:
        """False when it is time to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._queues or self._closing)
            return not self._closing

    def _serve(self, model: Model, slot: Slot) -> None:
        batch: list[_Task] = []
        self._batches.append(batch)
        with self._changed:
            self._fill(batch, 0 if self._closing else model.batch_size, slot.owners)
        slot.owners = [task.owner for task in batch]
        if batch:
            with pauses(lambda: self._let_pass(model, slot)):
                self._run_batch(model, batch)
        self._batches.pop()  # nothing of a request is kept

    def _let_pass(self, model: Model, slot: Slot) -> None:
        """In the middle of a call: serve first who is much lighter, or let other models do so."""
        owners, started, paused_s = slot.owners, time.monotonic(), self._paused_s
        self._call_started = None
        try:
            while self._slots.gives_way(slot, owners, self._first_owner):
                self._serve(model, slot)
        except Exception as error:
            raise SystemExit from error  # ends the thread: it must not pass for the model's
        self._call_started = time.monotonic()
        self._paused_s = paused_s + self._call_started - started

    def _first_owner(self) -> Hashable | None:
        """Of those who wait for this model; nobody where it closes and must not wait."""
        with self._changed:
            if self._closing or not self._queues:
                return None
            return min(self._queues, key=self._slots.tag)

    def _fill(self, batch: list[_Task], max_size: int, turn_of: Sequence[Hashable]) -> None:
        """One task of each owner in turn, all with the key of the first, until it is full.

        None where those whose turn it is have nothing any more, and all others are no equals.
        """
        progress = max_size > 0
        while progress:
            progress = False
            for owner in sorted(self._queues, key=self._slots.tag):
                beside = [batch[0].owner] if batch else turn_of
                if not all(self._slots.may_share(other, owner) for other in beside):
                    continue
                task = self._pop(owner, batch, max_size)
                if task is not None:
                    batch.append(task)
                    progress = True
                if batch and len(batch) >= self._sizer(batch, max_size).size:
                    return

    def _sizer(self, batch: Sequence[_Task], max_size: int) -> BatchSizer:
        """Of such batches: the longest item tells how long one takes."""
        kind = batch[0].key, max(task.length for task in batch)
        if kind not in self._sizers:
            self._sizers[kind] = BatchSizer(max_size)
        return self._sizers[kind]

    def _pop(self, owner: Hashable, batch: Sequence[_Task], max_size: int) -> _Task | None:
        """The owner's next task that the batch has room for; the owner goes to the end."""
        queue = self._queues[owner]
        while queue and queue[0].future.cancelled():
            queue.popleft()
        found = next((task for task in queue if self._fits(task, batch, max_size)), None)
        if found is not None:
            queue.remove(found)
            if queue:
                self._queues.move_to_end(owner)
            if not found.future.set_running_or_notify_cancel():
                found = None
        if not queue:
            del self._queues[owner]
        return found

    def _fits(self, task: _Task, batch: Sequence[_Task], max_size: int) -> bool:
        if not batch:
            return True
        return task.key == batch[0].key and len(batch) < self._sizer([*batch, task], max_size).size

    def _run_batch(self, model: Model, batch: Sequence[_Task]) -> None:
        """Resolve every future of the batch. Where the batch fails, only the guilty item does."""
        started, paused_s = time.monotonic(), self._paused_s
        try:
            outcomes = self._call(model, batch)
            if len(outcomes) != len(batch):
                raise StageFailed("A model lost an item of its batch.")
        # The worker's boundary: whatever breaks inside a model must reach the callers.
        except Exception as error:  # noqa: BLE001
            self._recover(model, batch, error)
            return
        seconds = time.monotonic() - started - (self._paused_s - paused_s)
        sizer = self._sizer(batch, model.batch_size)
        self._observe(len(batch), sizer.size, seconds)
        sizer.observe(len(batch), seconds)
        for task, outcome in zip(batch, outcomes, strict=True):
            task.future.set_result(outcome)

    def _call(self, model: Model, batch: Sequence[_Task]) -> list[Any]:
        self._call_started = time.monotonic()
        try:
            outcomes: list[Any] = model.run([task.item for task in batch])
            return outcomes
        finally:
            self._call_started = None

    def _recover(self, model: Model, batch: Sequence[_Task], error: Exception) -> None:
        """Out of memory: halve the batch; what fails alone gets a second try with memory freed.
        Any other error: item by item, to find the guilty one."""
        starved = self._recovery.is_out_of_memory(error)
        if starved:
            log.warning("out of memory with a batch of %d", len(batch))
            self._recovery.free_memory()
        elif self._recovery.is_fatal(error):
            log.critical("the device is lost", exc_info=error)
            self._recovery.give_up()
            _fail(batch)
            return
        if len(batch) > 1:
            if starved:
                self._sizer(batch, model.batch_size).shrink(len(batch))
            step = (len(batch) + 1) // 2 if starved else 1
            for i in range(0, len(batch), step):
                self._run_batch(model, batch[i : i + step])
            return
        [task] = batch
        if starved:
            try:
                task.future.set_result(self._call(model, batch)[0])
            # The same boundary, for the second and last try.
            except Exception as second:  # noqa: BLE001
                task.context.run(log.error, "out of memory with a single item", exc_info=second)
                task.future.set_exception(ModelUnavailable(NO_MEMORY, retry_after_s=30))
            return
        task.context.run(log.error, "a batch failed", exc_info=error)
        ours = error if isinstance(error, ServiceError) else StageFailed(MODEL_FAILED)
        task.future.set_exception(ours)

    def _fail_queued(self) -> None:
        with self._changed:
            queues, self._queues = self._queues, OrderedDict()
        _fail([task for queue in queues.values() for task in queue])


def _length(audio_s: float) -> int:
    """Alike for what differs by less than a factor of two."""
    return math.ceil(math.log2(max(audio_s, MIN_LENGTH_S)))


def _fail(tasks: Iterable[_Task]) -> None:
    """Resolve what is still open."""
    for task in tasks:
        if task.future.cancelled() or task.future.done():
            continue
        if task.future.running() or task.future.set_running_or_notify_cancel():
            task.future.set_exception(ModelUnavailable(MODEL_GONE, retry_after_s=1))
