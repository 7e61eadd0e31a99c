"""Threads that keep nothing of a request that failed."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Threads(ThreadPoolExecutor):
    """Whose failures keep nothing but their text.

    The traceback of an exception holds the variables of all frames that it came through, a mapped
    recording of hours among them, and is part of cycles that nobody collects for a long time.
    """

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        return super().submit(_forgetful(function), *args, **kwargs)


def _forgetful(function: Callable[P, T]) -> Callable[P, T]:
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            reason: BaseException | None = error
            while reason is not None:
                traceback.clear_frames(reason.__traceback__)
                reason = reason.__cause__ or reason.__context__
            raise

    return call
