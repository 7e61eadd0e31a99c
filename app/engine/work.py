"""Work: all that one request has under way, so that it can be given up at once."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Iterable
from concurrent.futures import CancelledError, Future
from typing import Any, NoReturn

from app.domain.errors import Cancelled, DeadlineExceeded, ModelUnavailable, ServiceError
from app.engine.batching import Batcher, T, TaskFuture
from app.observability.stages import StageClock


class Work:
    """All that one request has under way, so that it can be given up at once."""

    def __init__(self, request_id: str, timeout_s: float, stages: StageClock | None = None) -> None:
        self.request_id = request_id
        self.stages = stages or StageClock()
        self.progress = 0.0  # 0 to 1, as far as can be told
        self._deadline = time.monotonic() + timeout_s
        self._lock = threading.Lock()
        self._open: set[Future[Any]] = set()
        self._reason: ServiceError | None = None

    def cancel(self, reason: ServiceError | None = None) -> None:
        """Drop what is queued; whoever waits gets the reason. A running batch is not broken off."""
        with self._lock:
            self._reason = self._reason or _fresh(reason or Cancelled("The request was cancelled."))
            running = list(self._open)
        for future in running:
            future.cancel()

    def check(self) -> None:
        """Raise what the request was given up for, if it was."""
        if self._reason is not None:
            raise _fresh(self._reason)

    def submit(
        self, batcher: Batcher[Any], items: Iterable[Any], first: bool = False
    ) -> list[TaskFuture]:
        """`first`: before all else that this request has queued there."""
        self.check()
        futures = batcher.submit(self, items, first)
        for future in futures:
            self.track(future)
        return futures

    def track(self, future: Future[T]) -> Future[T]:
        """Have `cancel` cancel this one too."""
        with self._lock:
            self._open.add(future)
        future.add_done_callback(self._forget)
        if self._reason is not None:
            future.cancel()
        return future

    def _forget(self, future: Future[Any]) -> None:
        with self._lock:
            self._open.discard(future)

    @property
    def left_s(self) -> float:
        """Seconds until the deadline; 0 beyond it."""
        return max(0.0, self._deadline - time.monotonic())

    def wait(self, future: Future[T]) -> T:
        """The future's value.

        Raises:
            Cancelled, ClientGone, ...: the reason of `cancel`.
            DeadlineExceeded: the request's time is over.
        """
        try:
            error = future.exception(timeout=self.left_s)
        except CancelledError:
            self.check()
            raise ModelUnavailable("The work was dropped; try again.") from None
        except TimeoutError:
            self.cancel(DeadlineExceeded())
            error = self._reason
        if isinstance(error, ServiceError):
            raise _fresh(error)
        value = future.result()
        self.check()
        return value

    def expire(self) -> NoReturn:
        """End it because its time is over; raises DeadlineExceeded, or what ended it before."""
        self.cancel(DeadlineExceeded())
        self.check()
        raise AssertionError("a cancelled request has a reason")


def _fresh(error: ServiceError) -> ServiceError:
    """The same without a traceback. What is raised keeps all that its frames hold, the recording
    among it; so nothing is raised itself that others may keep for longer than the request lives.
    """
    return copy.copy(error)
