"""Batcher: joins the work of many requests into calls of one model. Owns the model's thread.

Each model is loaded, called and dropped in a thread of its own. Requests take turns item by item,
so a two-hour file does not starve a ten-second one; a request that is alone gets whole batches.
If several models share a CPU, `slots.py` decides which one runs, and a long call pauses now and
then to let a short clip go first. Background work (`background.py`) fills up what others leave.
Nothing waits for a batch to fill: the next batch is what queued up while the device was busy.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from itertools import groupby
from typing import Generic, TypeVar

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
from app.engine.urgency import SHORT_S, Urgency

log = logging.getLogger(__name__)

MODEL_GONE = "The model was unloaded; try again."
MODEL_FAILED = "A model failed on this recording."
NO_MEMORY = "The device has too little free memory for this recording; try again later."

MIN_LENGTH_S = 4.0  # shorter items take about as long

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


@dataclass(frozen=True, slots=True)
class Recovery:
    """What to do when a device is out of memory or lost."""

    is_out_of_memory: Callable[[BaseException], bool]
    free_memory: Callable[[], None]  # drops what nobody uses
    is_fatal: Callable[[BaseException], bool] = lambda error: False  # the device is lost
    give_up: Callable[[], None] = lambda: None  # ends the process, so that another replaces it


NO_RECOVERY = Recovery(lambda error: isinstance(error, MemoryError), lambda: None)


class _SchedulingFailed(BaseException):
    """A bug of ours during a pause of a model. It ends the thread.

    Not an Exception: the model's code and the recovery of a batch would take it for the model's.
    """


class TaskFuture(Future[Outcome]):
    """Knows when its item was queued and when a batch took it."""

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
class _Task(Generic[Item, Outcome]):
    owner: Hashable
    item: Item
    key: Hashable
    length: int  # the exponent of a power of two: such items take about the same time
    future: TaskFuture[Outcome]
    context: Context = field(default_factory=copy_context)  # the request's, for the log


class Batcher(Generic[Item, Outcome]):
    """One model with its thread and its queue."""

    def __init__(
        self,
        name: str,
        load: Callable[[], BatchModel[Item, Outcome]],
        recovery: Recovery = NO_RECOVERY,
        slots: Slots | None = None,
        observe: Callable[[int, int, float], None] = lambda num_items, room, seconds: None,
        ahead: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Load the model in its thread and wait for it.

        `slots`: those of its device. `observe` is called for each successful batch with the number
        of items, the number it had room for and the seconds it took. `ahead`: among the work of one
        owner, this model's goes first. `clock`: of urgent work.

        Raises:
            Whatever `load` raises.
        """
        self._recovery = recovery
        self._slots = slots or FreeForAll()
        self._observe = observe
        self._ahead = ahead
        self._urgency = Urgency(clock)
        # by batch key and length, which both change how long an item takes
        self._sizers: cachetools.LRUCache[Hashable, BatchSizer] = cachetools.LRUCache(128)
        self._changed = threading.Condition()
        self._queues: OrderedDict[Hashable, deque[_Task[Item, Outcome]]] = OrderedDict()
        self._closing = False
        # No longer queued; several while one batch pauses for another. Empty between calls.
        self._batches: list[list[_Task[Item, Outcome]]] = []
        self._call_started: float | None = None
        self._paused_s = 0.0
        self._model: BatchModel[Item, Outcome] | None = None
        loaded: Future[BatchModel[Item, Outcome]] = Future()
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
    def model(self) -> BatchModel[Item, Outcome]:
        """The model, for its methods that any thread may call.

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
        """Seconds since the model's current call began or last paused; 0 if there is no call."""
        started = self._call_started
        return 0.0 if started is None else time.monotonic() - started

    def submit(
        self, owner: Hashable, items: Iterable[Item], first: bool = False
    ) -> list[TaskFuture[Outcome]]:
        """Queue the items behind the owner's other items, or before them if `first`."""
        model = self.model
        tasks = [_task(owner, item, model) for item in items]
        with self._changed:
            _ = self.model  # still there?
            self._urgency.note(owner)
            queue = self._queues.setdefault(owner, deque())
            if first:
                queue.extendleft(reversed(tasks))
            else:
                queue.extend(tasks)
            self._changed.notify()
        return [task.future for task in tasks]

    def expect(self, owner: Hashable) -> None:
        """Urgent work of this owner will come soon: the batches before it shall be short."""
        self._urgency.note(owner)

    def close(self) -> None:
        """Fail what is queued, drop the model and wait until its memory is free."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    # -- the model's thread ----------------------------------------------------------------------

    def _run(
        self,
        load: Callable[[], BatchModel[Item, Outcome]],
        loaded: Future[BatchModel[Item, Outcome]],
    ) -> None:
        try:
            model = load()
        except BaseException as error:  # noqa: BLE001 - reaches whoever asked for the model
            loaded.set_exception(error)
            return
        loaded.set_result(model)
        try:
            while self._wait_for_work():
                with self._slots.slot(self._first_owner, self._ahead) as slot:
                    self._serve(model, slot)
        # Not only our own faults: libraries raise SystemExit, too.
        except BaseException:
            log.critical("the thread of the %s died", self._thread.name, exc_info=True)
        finally:
            self._closing = True
            for batch in self._batches:  # whatever ended the thread, nobody may wait forever
                _fail(batch)
            self._batches = []
            self._fail_queued()
            self._model = None
            model.close()

    def _wait_for_work(self) -> bool:
        """False when the thread must end."""
        with self._changed:
            self._changed.wait_for(lambda: self._queues or self._closing)
            return not self._closing

    def _serve(self, model: BatchModel[Item, Outcome], slot: Slot) -> None:
        batch: list[_Task[Item, Outcome]] = []
        self._batches.append(batch)
        with self._changed:
            self._fill(batch, 0 if self._closing else model.batch_size, slot.owners)
        slot.owners = [task.owner for task in batch]
        if batch:
            with pauses(lambda: self._let_pass(model, slot)):
                self._run_batch(model, batch)
        self._batches.pop()  # nothing of a request is kept

    def _let_pass(self, model: BatchModel[Item, Outcome], slot: Slot) -> None:
        """In the middle of a call: serve much lighter owners first, or let other models do so."""
        owners, started, paused_s = slot.owners, time.monotonic(), self._paused_s
        self._call_started = None
        try:
            while self._slots.gives_way(slot, owners, self._first_owner):
                self._serve(model, slot)
        except Exception as error:
            raise _SchedulingFailed from error
        self._call_started = time.monotonic()
        self._paused_s = paused_s + self._call_started - started

    def _first_owner(self) -> Hashable | None:
        """The owner that this model serves next; None if nobody waits or the model closes."""
        with self._changed:
            if self._closing or not self._queues:
                return None
            return min(self._queues, key=self._slots.order)

    def _fill(
        self, batch: list[_Task[Item, Outcome]], max_size: int, admitted: Sequence[Hashable]
    ) -> None:
        """Take one task of each owner in turn, all with the key of the first, until it is full.
        Those who can wait take their turns after all others.

        `admitted`: the owners that got the slot. Takes nothing if they have no work left and nobody
        else may share with them.
        """
        while not self._is_full(batch, max_size) and any(
            self._take_turns(batch, max_size, admitted, owners) for owners in self._ranks()
        ):
            pass

    def _ranks(self) -> Iterator[list[Hashable]]:
        """Owners in their order: those who can wait come last, by themselves."""
        in_order = sorted(self._queues, key=self._slots.order)
        for _, owners in groupby(in_order, key=lambda owner: self._slots.order(owner)[0]):
            yield list(owners)

    def _take_turns(
        self,
        batch: list[_Task[Item, Outcome]],
        max_size: int,
        admitted: Sequence[Hashable],
        owners: Iterable[Hashable],
    ) -> bool:
        """Take one task of each owner. Whether any had one that fits."""
        progress = False
        for owner in owners:
            if self._is_full(batch, max_size):
                break
            beside = [batch[0].owner] if batch else admitted
            if not all(self._slots.may_share(other, owner) for other in beside):
                continue
            task = self._pop(owner, batch, max_size)
            if task is not None:
                batch.append(task)
                progress = True
        return progress

    def _is_full(self, batch: Sequence[_Task[Item, Outcome]], max_size: int) -> bool:
        if not batch:
            return max_size == 0
        return len(batch) >= self._best_size(batch, max_size)

    def _best_size(self, batch: Sequence[_Task[Item, Outcome]], max_size: int) -> int:
        """Smaller while somebody speaks, if a batch cannot pause: their words wait for its end."""
        sizer = self._sizer(batch, max_size)
        if self._urgency.lasts and not self._slots.can_pause:
            return sizer.within(SHORT_S)
        return sizer.size

    def _sizer(self, batch: Sequence[_Task[Item, Outcome]], max_size: int) -> BatchSizer:
        """The sizer of such batches: the longest item decides how long one takes."""
        kind = batch[0].key, max(task.length for task in batch)
        if kind not in self._sizers:
            self._sizers[kind] = BatchSizer(max_size)
        return self._sizers[kind]

    def _pop(
        self, owner: Hashable, batch: Sequence[_Task[Item, Outcome]], max_size: int
    ) -> _Task[Item, Outcome] | None:
        """The owner's next task that fits into the batch; the owner goes to the end."""
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

    def _fits(
        self, task: _Task[Item, Outcome], batch: Sequence[_Task[Item, Outcome]], max_size: int
    ) -> bool:
        if not batch:
            return True
        return task.key == batch[0].key and len(batch) < self._best_size([*batch, task], max_size)

    def _run_batch(
        self, model: BatchModel[Item, Outcome], batch: Sequence[_Task[Item, Outcome]]
    ) -> None:
        """Resolve every future of the batch. If the batch fails, only the guilty item does."""
        started, paused_s = time.monotonic(), self._paused_s
        try:
            outcomes = self._call(model, batch)
            if len(outcomes) != len(batch):
                raise StageFailed("A model lost an item of its batch.")
        # The worker's boundary: any error of a model must reach the callers.
        except Exception as error:  # noqa: BLE001
            self._recover(model, batch, error)
            return
        seconds = time.monotonic() - started - (self._paused_s - paused_s)
        sizer = self._sizer(batch, model.batch_size)
        self._observe(len(batch), sizer.size, seconds)
        sizer.observe(len(batch), seconds)
        for task, outcome in zip(batch, outcomes, strict=True):
            task.future.set_result(outcome)

    def _call(
        self, model: BatchModel[Item, Outcome], batch: Sequence[_Task[Item, Outcome]]
    ) -> list[Outcome]:
        self._call_started = time.monotonic()
        try:
            return model.run([task.item for task in batch])
        finally:
            self._call_started = None

    def _recover(
        self,
        model: BatchModel[Item, Outcome],
        batch: Sequence[_Task[Item, Outcome]],
        error: Exception,
    ) -> None:
        """Out of memory: halve the batch; an item that fails alone gets a second try with memory
        freed. Any other error: run item by item to find the guilty one."""
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


def _task(owner: Hashable, item: Item, model: BatchModel[Item, Outcome]) -> _Task[Item, Outcome]:
    return _Task(owner, item, model.batch_key(item), _length(model.audio_s(item)), TaskFuture())


def _length(audio_s: float) -> int:
    """Equal for most items whose lengths differ by less than a factor of two."""
    return math.ceil(math.log2(max(audio_s, MIN_LENGTH_S)))


def _fail(tasks: Iterable[_Task[Item, Outcome]]) -> None:
    """Resolve futures that are still open."""
    for task in tasks:
        if task.future.cancelled() or task.future.done():
            continue
        if task.future.running() or task.future.set_running_or_notify_cancel():
            task.future.set_exception(ModelUnavailable(MODEL_GONE, retry_after_s=1))
