"""Rate limits per client, with a sliding window."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn, TypeVar
from urllib.parse import urlsplit

import limits.errors
from limits import RateLimitItem, RateLimitItemPerHour, RateLimitItemPerMinute
from limits.storage import RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.access.counters import WindowCounters
from app.domain.errors import ConfigurationError, RateLimited, UploadTooLarge

log = logging.getLogger(__name__)

T = TypeVar("T")
SCHEMES = ("redis", "rediss")
REDIS_PORT = 6379
STORAGE_TIMEOUT_S = 1.0
STORAGE_RETRY_S = 10.0
ALONE = "RATE_LIMIT_STORAGE_URL does not answer, so this process counts on its own: %s %s"


@dataclass(frozen=True, slots=True)
class Usage:
    """What a client has used of a limit, as a sliding window counter sees it.

    Of the window before this one, only the share within the last `window_s` seconds counts.
    """

    name: str
    limit: int
    window_s: float
    before: int
    before_left_s: float  # until it no longer counts
    now: int
    now_left_s: float  # until it becomes `before`

    @property
    def remaining(self) -> int:
        reached = math.floor(self.before * self.before_left_s / self.window_s)
        return max(0, self.limit - reached - self.now)

    def wait_s(self, cost: int) -> int:
        """Seconds until `cost` is free, if the client uses nothing in the meantime."""
        if cost <= self.remaining:
            return 0
        if self.now + cost <= self.limit:
            left_s = self._left_s(self.before, self.limit - cost - self.now)
            return _rounded_up(self.before_left_s - left_s)
        left_s = min(self.window_s, self._left_s(self.now, self.limit - cost))
        return _rounded_up(self.now_left_s + self.window_s - left_s)

    def _left_s(self, before: int, free: int) -> float:
        """Seconds that may still count of a window with `before` uses, for its share to fit."""
        return (free + 1) * self.window_s / before


def _rounded_up(seconds: float) -> int:
    """Whole seconds, always later than `seconds`: clocks and float arithmetic are inexact."""
    return math.floor(seconds + 0.01) + 1


class Account:
    """The rate limits of one client. Each call may block for a moment; any thread.

    `usage`: of each configured limit, as of the last call.
    """

    def __init__(self, rate_limits: RateLimits, client: str) -> None:
        self._rate_limits = rate_limits
        self.client = client
        self.usage: tuple[Usage, ...] = ()

    def admit(self) -> None:
        """Count a request.

        Raises:
            RateLimited: too many requests, or no audio is left.
        """
        limits_ = self._rate_limits
        let_in = limits_.hit(limits_.requests, self.client, 1)
        requests, audio = self._look()
        if requests is not None and not let_in:
            raise RateLimited(
                f"More than {requests.limit} requests in a minute; try again later.",
                max(1, requests.wait_s(1)),
            )
        if audio is not None and not audio.remaining:
            raise RateLimited(_used_up(audio), audio.wait_s(1))

    def charge(self, audio_s: float) -> None:
        """Count seconds of audio.

        Raises:
            RateLimited: too few are left.
            UploadTooLarge: more than the whole limit.
        """
        limits_ = self._rate_limits
        cost = math.ceil(audio_s)
        if limits_.audio is None or cost <= 0:
            return
        if cost > limits_.audio.amount:
            raise _too_long(limits_.audio.amount)
        let_in = limits_.hit(limits_.audio, self.client, cost)
        _, audio = self._look()
        if audio is not None and not let_in:
            raise RateLimited(_used_up(audio), max(1, audio.wait_s(cost)))

    def audio_left_s(self) -> float:
        """Seconds of audio that are left; infinite without a limit."""
        _, audio = self._look()
        return math.inf if audio is None else audio.remaining

    def exceed(self, left_s: float) -> NoReturn:
        """Refuse a recording of unknown length that is longer than `left_s`, what was left before.

        Raises:
            RateLimited: it may fit once all of the limit is free.
            UploadTooLarge: all of it is free.
        """
        _, audio = self._look()
        assert audio is not None
        if left_s >= audio.limit:
            raise _too_long(audio.limit)
        raise RateLimited(_used_up(audio), max(1, audio.wait_s(audio.limit)))

    def spend(self, audio_s: float) -> None:
        """Count seconds of audio that are gone already: no more than are left."""
        limits_ = self._rate_limits
        cost = math.ceil(audio_s)
        if limits_.audio is None or cost <= 0:
            return
        _, audio = self._look()
        if audio is not None and audio.remaining:
            limits_.hit(limits_.audio, self.client, min(cost, audio.remaining))

    def _look(self) -> tuple[Usage | None, Usage | None]:
        """Usage of (requests, audio); None for a limit that is not configured."""
        limits_ = self._rate_limits
        requests = limits_.usage(limits_.requests, self.client)
        audio = limits_.usage(limits_.audio, self.client)
        self.usage = tuple(usage for usage in (requests, audio) if usage is not None)
        return requests, audio


class RateLimits:
    """Limits requests per minute and seconds of audio per hour. 0: no limit."""

    def __init__(
        self, requests_per_minute: int = 0, audio_s_per_hour: int = 0, storage_url: str = ""
    ) -> None:
        """Raises ConfigurationError: `storage_url` cannot be used."""
        self.requests = _limit(RateLimitItemPerMinute, requests_per_minute, "requests")
        self.audio = _limit(RateLimitItemPerHour, audio_s_per_hour, "audio-seconds")
        self._storage = _Storage(storage_url)

    @property
    def enabled(self) -> bool:
        return self.requests is not None or self.audio is not None

    def account(self, client: str) -> Account:
        return Account(self, client)

    def hit(self, limit: RateLimitItem | None, client: str, cost: int) -> bool:
        return limit is None or self._storage.hit(limit, client, cost)

    def usage(self, limit: RateLimitItem | None, client: str) -> Usage | None:
        return None if limit is None else self._storage.usage(limit, client)


def _too_long(limit_s: int) -> UploadTooLarge:
    return UploadTooLarge(
        f"The recording is longer than the {limit_s / 60:g} minutes of audio that are allowed in "
        "an hour."
    )


def _used_up(audio: Usage) -> str:
    return (
        f"Of {audio.limit / 60:g} minutes of audio in an hour, {audio.remaining / 60:.1f} are "
        "left; try again later."
    )


def _limit(kind: type[RateLimitItem], amount: int, name: str) -> RateLimitItem | None:
    return kind(amount, namespace=name) if amount else None


class _Storage:
    """Counts in Redis if it is configured and answers, else in this process.

    Each replica then counts on its own, instead of failing or admitting all requests.
    """

    def __init__(self, url: str) -> None:
        self._own = SlidingWindowCounterRateLimiter(WindowCounters())
        self._shared = SlidingWindowCounterRateLimiter(_redis(url)) if url else None
        self._away_until = -math.inf
        self._away = False

    def hit(self, limit: RateLimitItem, client: str, cost: int) -> bool:
        return self._ask(lambda limiter: limiter.hit(limit, client, cost=cost))

    def usage(self, limit: RateLimitItem, client: str) -> Usage:
        window_s = limit.get_expiry()

        def look(limiter: SlidingWindowCounterRateLimiter) -> Usage:
            storage = limiter.storage
            assert isinstance(storage, WindowCounters | RedisStorage)
            key = limit.key_for(client)
            before, before_left_s, now, now_left_s = storage.get_sliding_window(key, window_s)
            return Usage(
                limit.namespace,
                limit.amount,
                window_s,
                before,
                before_left_s,
                now,
                max(0, now_left_s - window_s),  # the storage keeps a window for twice its length
            )

        return self._ask(look)

    def _ask(self, ask: Callable[[SlidingWindowCounterRateLimiter], T]) -> T:
        if self._shared is not None and time.monotonic() >= self._away_until:
            try:
                answer = ask(self._shared)
            except (limits.errors.StorageError, OSError) as error:  # TimeoutError is one
                self._away_until = time.monotonic() + STORAGE_RETRY_S
                if not self._away:
                    log.warning(ALONE, type(error).__name__, error)
                self._away = True
            else:
                if self._away:
                    log.warning("RATE_LIMIT_STORAGE_URL answers again.")
                self._away = False
                return answer
        return ask(self._own)


def _redis(url: str) -> RedisStorage:
    try:
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES or not parts.hostname:
            raise ValueError
        if parts.port is None:
            parts = parts._replace(netloc=f"{parts.netloc}:{REDIS_PORT}")
        return RedisStorage(
            parts.geturl(),
            wrap_exceptions=True,
            key_prefix="whisperx-asr",
            socket_timeout=STORAGE_TIMEOUT_S,
            socket_connect_timeout=STORAGE_TIMEOUT_S,
            retry=Retry(NoBackoff(), 1),  # type: ignore[arg-type]  # once, for stale connections
        )
    except (ValueError, limits.errors.ConfigurationError):  # its text may contain the password
        raise ConfigurationError(
            "RATE_LIMIT_STORAGE_URL: not of the form redis://[:PASSWORD@]HOST:PORT/DB."
        ) from None
