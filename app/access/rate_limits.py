"""Rate limits: how much each client may ask for."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

import limits.errors
from limits import RateLimitItem, RateLimitItemPerHour, RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from app.domain.errors import ConfigurationError, RateLimited, UploadTooLarge

log = logging.getLogger(__name__)

T = TypeVar("T")
SCHEMES = ("redis", "rediss")
REDIS_PORT = 6379
STORAGE_TIMEOUT_S = 1.0
STORAGE_RETRY_S = 10.0
ALONE = "RATE_LIMIT_STORAGE_URL does not answer, so this process counts for itself: %s %s"


@dataclass(frozen=True, slots=True)
class Usage:
    """What a client has used of a limit, in the terms of the sliding window counter: of the window
    before this one, only the share counts that the last `window_s` seconds still reach back to.
    """

    limit: int
    window_s: float
    before: int
    before_left_s: float  # until it counts no more
    now: int
    now_left_s: float  # until it becomes the one before

    @property
    def remaining(self) -> int:
        reached = math.floor(self.before * self.before_left_s / self.window_s)
        return max(0, self.limit - reached - self.now)

    def wait_s(self, cost: int) -> int:
        """Seconds until so much is free, if nothing else is used meanwhile."""
        if cost <= self.remaining:
            return 0
        if self.now + cost <= self.limit:
            left_s = self._left_s(self.before, self.limit - cost - self.now)
            return _rounded_up(self.before_left_s - left_s)
        left_s = min(self.window_s, self._left_s(self.now, self.limit - cost))
        return _rounded_up(self.now_left_s + self.window_s - left_s)

    def _left_s(self, before: int, free: int) -> float:
        """What must be left of a window that was used so much, for its share to fit."""
        return (free + 1) * self.window_s / before


def _rounded_up(seconds: float) -> int:
    """Surely later: clocks and their arithmetic are not exact."""
    return math.floor(seconds + 0.01) + 1


class RateLimits:
    """Event loop only. A limit of 0 is none."""

    def __init__(self, requests_per_minute: int, audio_s_per_hour: int, storage_url: str) -> None:
        self._requests = _limit(RateLimitItemPerMinute, requests_per_minute, "requests")
        self._audio = _limit(RateLimitItemPerHour, audio_s_per_hour, "audio-seconds")
        self._storage = _Storage(storage_url)

    @property
    def count_audio(self) -> bool:
        return self._audio is not None

    async def admit(self, client: str, headers: dict[str, str]) -> None:
        """Count a request, and tell in `headers` how its client stands.

        Raises:
            RateLimited: it is one too many, or all of the audio is used up.
        """
        let_in = self._requests is None or await self._storage.hit(self._requests, client, 1)
        requests, audio = await self._tell(client, headers)
        if requests is not None and not let_in:
            raise RateLimited(
                f"More than {requests.limit} requests in a minute; try again later.",
                max(1, requests.wait_s(1)),
            )
        if audio is not None and not audio.remaining:
            raise RateLimited(_used_up(audio), audio.wait_s(1))

    async def charge(self, client: str, audio_s: float, headers: dict[str, str]) -> None:
        """Put seconds of audio down to a client.

        Raises:
            RateLimited: there are not so many left.
            UploadTooLarge: there never will be.
        """
        cost = math.ceil(audio_s)
        if self._audio is None or cost <= 0:
            return
        if cost > self._audio.amount:
            raise UploadTooLarge(
                f"The recording is longer than the {self._audio.amount / 60:g} minutes of audio "
                "that are allowed in an hour."
            )
        let_in = await self._storage.hit(self._audio, client, cost)
        _, audio = await self._tell(client, headers)
        if audio is not None and not let_in:
            raise RateLimited(_used_up(audio), max(1, audio.wait_s(cost)))

    async def _tell(
        self, client: str, headers: dict[str, str]
    ) -> tuple[Usage | None, Usage | None]:
        """How a client stands; `headers` tell of the limit of which the smaller share is left.

        Source: draft-ietf-httpapi-ratelimit-headers, version 6, with the policy of version 8.
        """
        usage: list[Usage | None] = []
        for limit in (self._requests, self._audio):
            usage.append(None if limit is None else await self._storage.usage(limit, client))
        if told := [one for one in usage if one is not None]:
            scarce = min(told, key=lambda one: one.remaining / one.limit)
            headers["RateLimit-Limit"] = str(scarce.limit)
            headers["RateLimit-Remaining"] = str(scarce.remaining)
            headers["RateLimit-Reset"] = str(scarce.wait_s(min(scarce.remaining + 1, scarce.limit)))
            headers["RateLimit-Policy"] = ", ".join(
                f'"{limit.namespace}";q={limit.amount};w={limit.get_expiry()}'
                for limit in (self._requests, self._audio)
                if limit is not None
            )
        return usage[0], usage[1]


def _used_up(audio: Usage) -> str:
    return (
        f"Of {audio.limit / 60:g} minutes of audio in an hour, {audio.remaining / 60:.1f} are "
        "left; try again later."
    )


def _limit(kind: type[RateLimitItem], amount: int, name: str) -> RateLimitItem | None:
    return kind(amount, namespace=name) if amount else None


class _Storage:
    """Redis where it is wanted and answers, else this process: a replica then counts for itself,
    rather than to fail requests or to let all of them in."""

    def __init__(self, url: str) -> None:
        self._own = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._shared = SlidingWindowCounterRateLimiter(_redis(url)) if url else None
        self._away_until = -math.inf
        self._away = False

    async def hit(self, limit: RateLimitItem, client: str, cost: int) -> bool:
        return await self._ask(lambda limiter: limiter.hit(limit, client, cost=cost))

    async def usage(self, limit: RateLimitItem, client: str) -> Usage:
        window_s = limit.get_expiry()

        async def look(limiter: SlidingWindowCounterRateLimiter) -> Usage:
            storage = limiter.storage
            assert isinstance(storage, MemoryStorage | RedisStorage)
            key = limit.key_for(client)
            before, before_left_s, now, now_left_s = await storage.get_sliding_window(key, window_s)
            # the storage keeps a window for twice its length
            return Usage(
                limit.amount, window_s, before, before_left_s, now, max(0, now_left_s - window_s)
            )

        return await self._ask(look)

    async def _ask(self, ask: Callable[[SlidingWindowCounterRateLimiter], Awaitable[T]]) -> T:
        if self._shared is not None and time.monotonic() >= self._away_until:
            try:
                async with asyncio.timeout(STORAGE_TIMEOUT_S):
                    answer = await ask(self._shared)
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
        return await ask(self._own)


def _redis(url: str) -> RedisStorage:
    try:
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES or not parts.hostname:
            raise ValueError
        if parts.port is None:
            parts = parts._replace(netloc=f"{parts.netloc}:{REDIS_PORT}")
        return RedisStorage(
            f"async+{parts.geturl()}",
            wrap_exceptions=True,
            implementation="redispy",
            key_prefix="whisperx-asr",
            socket_timeout=STORAGE_TIMEOUT_S,
            socket_connect_timeout=STORAGE_TIMEOUT_S,
            retry=Retry(NoBackoff(), 1),  # type: ignore[arg-type]  # once, for stale connections
        )
    except (ValueError, limits.errors.ConfigurationError):  # the text may hold the password
        raise ConfigurationError(
            "RATE_LIMIT_STORAGE_URL: not of the form redis://[:PASSWORD@]HOST:PORT/DB."
        ) from None
