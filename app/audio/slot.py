"""A place in the pool: one process, for one task at a time."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from app.audio.decoder import Decoder
from app.audio.turns import Task
from app.domain.errors import ModelUnavailable, ServiceError

NO_PROCESS = "No process can be started for decoding; try again later."
NUM_TRIES = 2  # to have a process begin: one may have been killed while it was idle
MAX_CALLS = 50  # then a fresh process, so that leaks in FFmpeg do not add up


class Slot:
    """A place in the pool. Its thread calls all methods but `stop`.

    `spare`: only for small files of clients who would have to wait for others. `task` and `stop`
    need the pool's lock.
    """

    def __init__(self, number: int, spare: bool, start: Callable[[], Decoder]) -> None:
        self.name = f"decode-{number}"
        self.spare = spare
        self.thread: threading.Thread | None = None
        self.task: Task | None = None
        self._start = start
        self._decoder: Decoder | None = None
        self._begun_s = math.inf  # the CPU time of the process when it took the task

    def renew(self) -> Decoder | None:
        """The slot's process: a new one if it has died or worked enough; None if there is none."""
        decoder = self._decoder
        if (
            decoder is None
            or not decoder.alive
            or decoder.is_stale
            or decoder.num_calls >= MAX_CALLS
        ):
            self.drop()
            with suppress(OSError):
                self._decoder = self._start()
        return self._decoder

    def drop(self) -> None:
        if self._decoder is not None:
            self._decoder.close()
        self._decoder = None

    def run(self, task: Task, timeout_s: float) -> Any:
        """The outcome of a task: a value or an exception."""
        outcome: Any = None
        for _ in range(NUM_TRIES):
            outcome = self._try(task, timeout_s)
            self._note_cost(task)
            if isinstance(outcome, Exception) and not isinstance(outcome, ServiceError):
                self.drop()  # it is dead, out of time or out of memory
            if task.started is not None or task.future.cancelled():
                break
        return outcome

    def _try(self, task: Task, timeout_s: float) -> Any:
        decoder = self.renew()
        if decoder is None:
            return ModelUnavailable(NO_PROCESS, 10)
        self._begun_s = math.inf

        def note_start() -> None:
            self._begun_s = decoder.cpu_s  # a start is nobody's expense
            task.started = time.monotonic()

        try:
            if task.future.cancelled():
                return None
            return decoder.call(task.function, task.arguments, timeout_s, note_start)
        # The boundary of the slot: whoever waits for the task gets what was raised.
        except Exception as error:  # noqa: BLE001
            return error

    def stop(self, task: Task) -> None:
        """Kill the process if it has this task."""
        decoder = self._decoder  # its thread may drop it meanwhile
        if self.task is task and decoder is not None:
            self._note_cost(task)
            decoder.kill()

    def _note_cost(self, task: Task) -> None:
        decoder = self._decoder
        if decoder is not None:
            task.cpu_s = max(task.cpu_s, decoder.cpu_s - self._begun_s)
