"""A thread pool that drops tracebacks, so that a failed request frees its audio."""

from __future__ import annotations

import contextvars
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from app.domain.errors import Overloaded, ServiceError, ShuttingDown, StageFailed

P = ParamSpec("P")
T = TypeVar("T")

NO_THREAD = "The machine has no room for another request; try again later."
RETRY_S = 10


class Threads(ThreadPoolExecutor):
    """Drops the traceback of an expected exception that a job raises. That of a fault goes to the
    log; its frames are cleared.

    A traceback holds the variables of each frame and what its function refers to, such as a mapped
    recording of hours, in cycles that may not be collected for a long time.
    """

    _closed = False

    def start(self, job: Callable[[], T]) -> Future[T]:
        """Run a job of a request. Its log lines carry the request's id.

        Raises:
            Overloaded: the system has no more threads.
            ShuttingDown: the pool is closed.
        """
        withdrawn = False

        def guarded() -> T:
            if withdrawn:
                raise Overloaded(NO_THREAD, RETRY_S)
            try:
                return job()
            except SystemExit as error:  # from a library; it must not end the event loop's thread
                raise StageFailed("A stage ended unexpectedly.") from error

        try:
            return self.submit(contextvars.copy_context().run, guarded)
        except RuntimeError:
            withdrawn = True  # the pool queues a job before it starts a thread for it
            if self._closed:
                raise ShuttingDown from None
            raise Overloaded(NO_THREAD, RETRY_S) from None

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._closed = True
        super().shutdown(wait, cancel_futures=cancel_futures)

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        return super().submit(_forgetful(function), *args, **kwargs)


def _forgetful(function: Callable[P, T]) -> Callable[P, T]:
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            del args, kwargs  # this frame runs still, and cannot be cleared
            expected = isinstance(error, ServiceError) and not isinstance(error, StageFailed)
            for reason in _reasons(error):
                traceback.clear_frames(reason.__traceback__)
                if expected:
                    reason.__traceback__ = None
            raise

    return call


def _reasons(error: BaseException) -> list[BaseException]:
    """The error and all that led to it."""
    found, left = list[BaseException](), [error]
    while left:
        reason = left.pop()
        if reason not in found:
            found.append(reason)
            left += filter(None, (reason.__cause__, reason.__context__))
    return found
