"""Failures: which models could not be loaded, why, and when to try again."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

from app.domain.errors import ModelMissing, ModelUnavailable
from app.engine.model import ModelKey

log = logging.getLogger(__name__)

MIN_INTERVAL_S = 30.0
MAX_INTERVAL_S = 900.0
COSTLY_S = 1.0  # a load that failed after this long is not tried again at once:
REST = 10  # only after this many times as long, so that it does not take turns from others
MAX_REASON = 300  # characters of an exception that are logged


@dataclass(frozen=True, slots=True)
class Failure:
    """`missing`: a download failed. Nobody tries again before `next_try` (of the clock).

    A fault of this machine may be repaired at any moment, so the next request tries again unless
    the last try took long; until `until` such a failure is not logged as an error again.
    """

    message: str
    missing: bool
    num_times: int
    until: float
    next_try: float


class Failures:
    """Not thread-safe: its owner holds a lock."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures: dict[ModelKey, Failure] = {}

    def check(self, key: ModelKey) -> None:
        """Raises ModelUnavailable while nobody may try again."""
        failure = self._failures.get(key)
        if failure is not None and self._left_s(failure) > 0:
            raise self.error(key)

    def error(self, key: ModelKey) -> ModelUnavailable:
        """The error for callers."""
        failure = self._failures[key]
        left_s = self._left_s(failure)
        if not failure.missing and left_s <= 0:
            left_s = MIN_INTERVAL_S
        return ModelUnavailable(failure.message, max(1, math.ceil(left_s)))

    def is_missing(self, key: ModelKey) -> bool:
        failure = self._failures.get(key)
        return failure is not None and failure.missing

    def add(
        self,
        key: ModelKey,
        error: ModelUnavailable,
        cause: BaseException,
        took_s: float,
        grow: bool = True,
    ) -> None:
        """Record a failure and log it in one line; the traceback is for debugging.

        `error`: for callers. `cause`: what happened. `took_s`: how long the try was. `grow`:
        make the interval longer.
        """
        now = self._clock()
        last = self._failures.get(key)
        missing = isinstance(error, ModelMissing)
        known = last is not None and not missing and last.until > now
        num_times = last.num_times + (grow and not known) if last else 1
        interval_s = min(MIN_INTERVAL_S * 2 ** min(num_times - 1, 10), MAX_INTERVAL_S)
        until = last.until if last and known else now + interval_s
        rest_s = min(REST * took_s, MAX_INTERVAL_S) if took_s > COSTLY_S else 0.0
        next_try = max(now + rest_s, until if missing else now)
        self._failures[key] = Failure(error.message, missing, num_times, until, next_try)
        log.log(
            logging.DEBUG if known else logging.ERROR,
            "loading the %s %s failed%s: %s",
            key.kind,
            key.name,
            f", next try in {next_try - now:.0f} s" if next_try > now else "",
            _one_line(cause),
            exc_info=cause if log.isEnabledFor(logging.DEBUG) else None,
        )

    def forget(self, key: ModelKey) -> None:
        self._failures.pop(key, None)

    def sentences(self) -> list[str]:
        """For each model: what is missing, why, and when the next try is."""
        sentences = []
        for failure in self._failures.values():
            left_s = self._left_s(failure)
            when = f"Next try in {left_s:.0f} s." if left_s > 0 else "The next request tries again."
            sentences.append(f"{failure.message} {when}")
        return sentences

    def _left_s(self, failure: Failure) -> float:
        return failure.next_try - self._clock()


def _one_line(cause: BaseException) -> str:
    """Our own errors and a hub's are sentences; others come with the name of their class."""
    text = " ".join(str(cause).split())[:MAX_REASON]
    return text if text.endswith((".", ")")) else f"{type(cause).__name__}: {text}"
