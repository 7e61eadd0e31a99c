"""Work: everything that one request has under way, so that it can be cancelled at once."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Iterable
from concurrent.futures import CancelledError, Future
from typing import Any, NoReturn, TypeVar

from app.domain.errors import Cancelled, DeadlineExceeded, ModelUnavailable, ServiceError
from app.engine.batching import Batcher, TaskFuture
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
        self.background_since = time.monotonic() if background else None
        self.stages = stages or StageClock()
        self.progress = 0.0  # 0 to 1, estimated
        self._deadline = time.monotonic() + timeout_s
        self._lock = threading.Lock()
        self._open: set[Future[Any]] = set()
        self._reason: ServiceError | None = None

    @property
    def background(self) -> bool:
        return self.background_since is not None

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

    def wait(self, future: Future[T]) -> T:
        """The future's value.

        Raises:
            Cancelled, ClientGone, ...: the reason of `cancel`.
            DeadlineExceeded: the request has run out of time.
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

    def wait_tracked(self, future: Future[T]) -> T:
        """As `wait`, for a future that nobody else needs: `cancel` cancels it."""
        return self.wait(self.track(future))

    def expire(self) -> NoReturn:
        """End the request: its time is over. Raises DeadlineExceeded, or the earlier reason."""
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
