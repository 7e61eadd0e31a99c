"""Batcher: joins the work of many requests into calls of one model. Owns the model's threads.

Each model is loaded, called and dropped in a thread of its own; one with several workers is called
in as many threads, which share what waits. Requests take turns item by item, so a two-hour file
does not starve a ten-second one; a request that is alone gets whole batches.
If several models share a CPU, `slots.py` decides which one runs, and a long call pauses now and
then to let a short clip go first. Background work (`background.py`) fills up what others leave.
Nothing waits for a batch to fill: the next batch is what queued up while the device was busy.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

from app.domain.errors import ModelUnavailable
from app.engine.model import BatchModel
from app.engine.pauses import pauses
from app.engine.recovery import NO_RECOVERY, BatchRunner, Recovery
from app.engine.sizing import BatchSizers
from app.engine.slots import FreeForAll, Slot, Slots
from app.engine.task_queues import TaskQueues
from app.engine.tasks import MODEL_GONE, Task, TaskFuture, fail, kind_of, new_task
from app.engine.urgency import SHORT_S, Urgency

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class _SchedulingFailed(BaseException):
    """A bug of ours during a pause of a model. It ends the thread.

    Not an Exception: the model's code and the recovery of a batch would take it for the model's.
    """


class _Worker(Generic[Item, Outcome]):
    """What one thread of a model does. `batches`: no longer queued; several while one batch pauses
    for another. Empty between calls.
    """

    def __init__(self, runner: BatchRunner[Item, Outcome]) -> None:
        self.runner = runner
        self.batches: list[list[Task[Item, Outcome]]] = []


class Batcher(Generic[Item, Outcome]):
    """One model with its threads and its queue."""

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
        self._slots = slots or FreeForAll()
        self._ahead = ahead
        self._urgency = Urgency(clock)
        self._sizers = BatchSizers()
        self._recovery = recovery
        self._observe = observe
        self._changed = threading.Condition()
        self._queues: TaskQueues[Item, Outcome] = TaskQueues(self._slots, self._best_size)
        self._share = 1  # of what waits, for the next batch: idle workers get as much
        self._closing = False
        self._workers: list[_Worker[Item, Outcome]] = []
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
        """Whether the model still takes work."""
        return self._thread.is_alive() and not self._closing

    @property
    def busy_s(self) -> float:
        """Seconds since the model's longest call began or last paused; 0 if there is no call."""
        return max((worker.runner.busy_s for worker in self._workers), default=0.0)

    def submit(
        self, owner: Hashable, items: Iterable[Item], first: bool = False
    ) -> list[TaskFuture[Outcome]]:
        """Queue the items behind the owner's other items, or before them if `first`."""
        model = self.model
        tasks = [new_task(owner, item, model) for item in items]
        with self._changed:
            _ = self.model  # still there?
            self._urgency.note(owner)
            self._queues.add(owner, tasks, first)
            self._changed.notify_all()
        return [task.future for task in tasks]

    def expect(self, owner: Hashable) -> None:
        """Urgent work of this owner will come soon: the batches before it shall be short."""
        self._urgency.note(owner)

    def close(self) -> None:
        """Fail what is queued, drop the model and wait until its memory is free."""
        self._stop()
        self._thread.join()

    def _stop(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    # -- the model's threads ---------------------------------------------------------------------

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
        try:
            self._workers = [
                _Worker(BatchRunner(self._sizers, self._recovery, self._observe))
                for _ in range(model.num_workers)
            ]
            helpers = [self._start_helper(model, worker) for worker in self._workers[1:]]
        except BaseException as error:  # noqa: BLE001
            self._stop()
            model.close()
            loaded.set_exception(error)
            return
        loaded.set_result(model)
        self._work(model, self._workers[0])
        for helper in helpers:
            helper.join()
        self._model = None
        model.close()

    def _start_helper(
        self, model: BatchModel[Item, Outcome], worker: _Worker[Item, Outcome]
    ) -> threading.Thread:
        helper = threading.Thread(
            target=self._work, args=(model, worker), name=self._thread.name, daemon=True
        )
        helper.start()
        return helper

    def _work(self, model: BatchModel[Item, Outcome], worker: _Worker[Item, Outcome]) -> None:
        """Until the model closes. If one of its threads dies, the model does."""
        try:
            while self._wait_for_work():
                with self._slots.slot(self._first_owner, self._ahead) as slot:
                    self._serve(model, worker, slot)
        # Not only our own faults: libraries raise SystemExit, too.
        except BaseException:
            log.critical("the thread of the %s died", self._thread.name, exc_info=True)
        finally:
            self._stop()
            with self._changed:
                queued = self._queues.take_all()
            for tasks in (*worker.batches, queued):  # whatever happened, nobody may wait forever
                fail(tasks)
            worker.batches = []

    def _wait_for_work(self) -> bool:
        """False when the thread must end."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._queues) or self._closing)
            return not self._closing

    def _serve(
        self, model: BatchModel[Item, Outcome], worker: _Worker[Item, Outcome], slot: Slot
    ) -> None:
        batch: list[Task[Item, Outcome]] = []
        with self._changed:
            idle = sum(not other.batches for other in self._workers if other is not worker)
            self._share = math.ceil(self._queues.num_tasks / (1 + idle))
            worker.batches.append(batch)
            if not self._closing:
                self._queues.fill(batch, slot.owners)
        slot.owners = [task.owner for task in batch]
        if batch:
            with pauses(lambda: self._let_pass(model, worker, slot)):
                worker.runner.run(model, batch)
        worker.batches.pop()  # nothing of a request is kept

    def _let_pass(
        self, model: BatchModel[Item, Outcome], worker: _Worker[Item, Outcome], slot: Slot
    ) -> None:
        """In the middle of a call: serve much lighter owners first, or let other models do so."""
        owners = slot.owners
        with worker.runner.paused():
            try:
                while self._slots.gives_way(slot, owners, self._first_owner):
                    self._serve(model, worker, slot)
            except Exception as error:
                raise _SchedulingFailed from error

    def _first_owner(self) -> Hashable | None:
        """The owner that this model serves next; None if nobody waits or the model closes."""
        with self._changed:
            return None if self._closing else self._queues.first_owner()

    def _best_size(self, batch: Sequence[Task[Item, Outcome]]) -> int:
        """Smaller while somebody speaks, if a batch cannot pause: their words wait for its end."""
        sizer = self._sizers.of(kind_of(batch), self.model.batch_size)
        if self._urgency.lasts and not self._slots.can_pause:
            return min(self._share, sizer.within(SHORT_S))
        return min(self._share, sizer.size)
