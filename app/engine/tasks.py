"""Tasks: items that wait for a model, each with the future of its outcome."""

from __future__ import annotations

import math
import time
from collections.abc import Hashable, Iterable, Sequence
from concurrent.futures import Future
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from app.domain.errors import ModelUnavailable
from app.engine.model import BatchModel

MODEL_GONE = "The model was unloaded; try again."

MIN_LENGTH_S = 4.0  # shorter items take about as long

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


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
class Task(Generic[Item, Outcome]):
    """An item of an owner. Tasks with equal `key` may share a batch."""

    owner: Hashable
    item: Item
    key: Hashable
    length: int  # the exponent of a power of two: such items take about the same time
    future: TaskFuture[Outcome] = field(default_factory=TaskFuture)
    context: Context = field(default_factory=copy_context)  # the request's, for the log


def new_task(owner: Hashable, item: Item, model: BatchModel[Item, Outcome]) -> Task[Item, Outcome]:
    return Task(owner, item, model.batch_key(item), _length(model.audio_s(item)))


def _length(audio_s: float) -> int:
    """Equal for most items whose lengths differ by less than a factor of two."""
    return math.ceil(math.log2(max(audio_s, MIN_LENGTH_S)))


def kind_of(batch: Sequence[Task[Item, Outcome]]) -> Hashable:
    """Equal for batches whose items take equally long: the longest one decides."""
    return batch[0].key, max(task.length for task in batch)


def fail(tasks: Iterable[Task[Any, Any]]) -> None:
    """Resolve futures that are still open: their model is gone."""
    for task in tasks:
        if task.future.cancelled() or task.future.done():
            continue
        if task.future.running() or task.future.set_running_or_notify_cancel():
            task.future.set_exception(ModelUnavailable(MODEL_GONE, retry_after_s=1))
