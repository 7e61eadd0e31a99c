"""Work: everything that one request has under way, so that it can be cancelled at once."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Iterable
from concurrent.futures import CancelledError, Future
from queue import Empty, SimpleQueue
from typing import Any, NoReturn, TypeVar

from app.domain.errors import Cancelled, DeadlineExceeded, ModelUnavailable, ServiceError
from app.engine.batching import Batcher
from app.engine.tasks import TaskFuture
from app.observability.stages import StageClock

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")
T = TypeVar("T")


class Work:
    """Everything that one request has under way, so that it can be cancelled at once."""

    def __init__(
        self,
        request_id: str,
        timeout_s: float,
        stages: StageClock | None = None,
        background: bool = False,
        urgent: bool = False,
    ) -> None:
        """`background`: it takes only what room the work of others leaves (`background.py`).
        `urgent`: somebody speaks and waits for it (`urgency.py`).
        """
        self.urgent = urgent
        self.request_id = request_id
        self.background_since: float | None = None
        self.background = background
        self.stages = stages or StageClock()
        self._progress = 0.0
        self._followed: Work | None = None
        self._deadline = time.monotonic() + timeout_s
        self._lock = threading.Lock()
        self._open: set[Future[Any]] = set()
        self._reason: ServiceError | None = None

    @property
    def background(self) -> bool:
        return self.background_since is not None

    @background.setter
    def background(self, background: bool) -> None:
        self.background_since = time.monotonic() if background else None

    @property
    def progress(self) -> float:
        """0 to 1, estimated."""
        return self._progress if self._followed is None else self._followed.progress

    @progress.setter
    def progress(self, progress: float) -> None:
        self._progress, self._followed = progress, None

    def follow(self, other: Work) -> None:
        """From now on, its progress is that of the other one, which is done for it."""
        self._followed = other

    def cancel(self, reason: ServiceError | None = None) -> None:
        """Drop what is queued; whoever waits gets the reason. A running batch runs to its end."""
        with self._lock:
            self._reason = self._reason or _fresh(reason or Cancelled("The request was cancelled."))
            running = list(self._open)
        for future in running:
            future.cancel()

    def check(self) -> None:
        """Raise the reason of `cancel` if the request was cancelled."""
        if self._reason is not None:
            raise _final(self._reason)

    def submit(
        self, batcher: Batcher[Item, Outcome], items: Iterable[Item], first: bool = False
    ) -> list[TaskFuture[Outcome]]:
        """Queue the items; `first`: before everything else that this request has queued there."""
        self.check()
        futures = batcher.submit(self, items, first)
        for future in futures:
            self.track(future)
        return futures

    def track(self, future: Future[T]) -> Future[T]:
        """Let `cancel` cancel this future too."""
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

    def extend(self, timeout_s: float) -> None:
        """Move the deadline, if this is later."""
        self._deadline = max(self._deadline, time.monotonic() + timeout_s)

    def wait(self, future: Future[T]) -> T:
        """The future's value.

        Raises:
            Cancelled, ClientGone, ...: the reason of `cancel`.
            DeadlineExceeded: the request has run out of time.
        """
        try:
            error = self._error_of(future)
        except CancelledError:
            self.check()
            raise ModelUnavailable("The work was dropped; try again.") from None
        if isinstance(error, ServiceError):
            raise _fresh(error)
        value = future.result()
        self.check()
        return value

    def _error_of(self, future: Future[T]) -> BaseException | None:
        """Why the future failed, or why the request is over."""
        while True:
            try:
                return future.exception(timeout=self.left_s)
            except TimeoutError:
                if not self.left_s:  # else it was extended meanwhile
                    self.cancel(DeadlineExceeded())
                    return self._reason

    def next_of(self, queue: SimpleQueue[T]) -> T:
        """The next thing in a queue.

        Raises:
            DeadlineExceeded: the request has run out of time, or the earlier reason of its end.
        """
        while True:
            try:
                return queue.get(timeout=self.left_s)
            except Empty:
                if not self.left_s:
                    self._expire()

    def wait_tracked(self, future: Future[T]) -> T:
        """As `wait`, for a future that nobody else needs: `cancel` cancels it."""
        return self.wait(self.track(future))

    def _expire(self) -> NoReturn:
        """Raises DeadlineExceeded, or the earlier reason."""
        self.cancel(DeadlineExceeded())
        self.check()
        raise AssertionError("a cancelled request has a reason")


def _fresh(error: ServiceError) -> ServiceError:
    """A copy without a traceback. A raised exception keeps everything that its frames hold alive,
    including the recording, so an exception that others may keep is never raised itself.
    """
    return copy.copy(error)


def _final(error: ServiceError) -> ServiceError:
    fresh = _fresh(error)
    fresh.ends_request = True
    return fresh
