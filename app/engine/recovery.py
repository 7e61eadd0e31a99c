"""BatchRunner: calls a model with a batch, and finds the guilty item if that fails."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from app.domain.errors import ModelUnavailable, ServiceError, StageFailed
from app.engine.model import BatchModel
from app.engine.sizing import BatchSizers
from app.engine.tasks import Task, fail, kind_of

log = logging.getLogger(__name__)

MODEL_FAILED = "A model failed on this recording."
NO_MEMORY = "The device has too little free memory for this recording; try again later."

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


class BatchRunner(Generic[Item, Outcome]):
    """Runs batches of one model, in its thread, and resolves every future of them."""

    def __init__(
        self,
        sizers: BatchSizers,
        recovery: Recovery,
        observe: Callable[[int, int, float], None],
    ) -> None:
        """`sizers` learn from each batch. `observe`: see `Batcher`."""
        self._sizers = sizers
        self._recovery = recovery
        self._observe = observe
        self._call_started: float | None = None
        self._paused_s = 0.0

    @property
    def busy_s(self) -> float:
        """Seconds since the current call began or last paused; 0 if there is none. Any thread."""
        started = self._call_started
        return 0.0 if started is None else time.monotonic() - started

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The time of this block does not count for the call in which it lies."""
        started, paused_s = time.monotonic(), self._paused_s
        self._call_started = None
        yield
        self._call_started = time.monotonic()
        self._paused_s = paused_s + self._call_started - started

    def run(self, model: BatchModel[Item, Outcome], batch: Sequence[Task[Item, Outcome]]) -> None:
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
        sizer = self._sizers.of(kind_of(batch), model.batch_size)
        self._observe(len(batch), sizer.size, seconds)
        sizer.observe(len(batch), seconds)
        for task, outcome in zip(batch, outcomes, strict=True):
            task.future.set_result(outcome)

    def _call(
        self, model: BatchModel[Item, Outcome], batch: Sequence[Task[Item, Outcome]]
    ) -> list[Outcome]:
        self._call_started = time.monotonic()
        try:
            return model.run([task.item for task in batch])
        finally:
            self._call_started = None

    def _recover(
        self,
        model: BatchModel[Item, Outcome],
        batch: Sequence[Task[Item, Outcome]],
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
            fail(batch)
            return
        if len(batch) > 1:
            self._run_in_parts(model, batch, starved)
        elif starved:
            self._try_again(model, batch[0])
        else:
            _blame(batch[0], error)

    def _run_in_parts(
        self, model: BatchModel[Item, Outcome], batch: Sequence[Task[Item, Outcome]], starved: bool
    ) -> None:
        if starved:
            self._sizers.of(kind_of(batch), model.batch_size).shrink(len(batch))
        step = (len(batch) + 1) // 2 if starved else 1
        for i in range(0, len(batch), step):
            self.run(model, batch[i : i + step])

    def _try_again(self, model: BatchModel[Item, Outcome], task: Task[Item, Outcome]) -> None:
        try:
            task.future.set_result(self._call(model, [task])[0])
        # The same boundary, for the second and last try.
        except Exception as error:  # noqa: BLE001
            task.context.run(log.error, "out of memory with a single item", exc_info=error)
            task.future.set_exception(ModelUnavailable(NO_MEMORY, retry_after_s=30))


def _blame(task: Task[Item, Outcome], error: Exception) -> None:
    task.context.run(log.error, "a batch failed", exc_info=error)
    # a copy: the traceback of a kept error would keep the batch
    ours = copy.copy(error) if isinstance(error, ServiceError) else StageFailed(MODEL_FAILED)
    task.future.set_exception(ours)
