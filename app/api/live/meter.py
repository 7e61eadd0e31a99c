"""The sound of a stream, counted as it comes against its client's limit."""

from __future__ import annotations

import asyncio
import math

from app.domain.errors import Overloaded, ServiceError
from app.live.live import Stream

CHARGE_EVERY_S = 10.0


class Meter:
    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._heard_s = 0.0
        self._charged_s = 0

    async def hear(self, until_s: float) -> None:
        """So much has come until now. Raises RateLimited."""
        self._heard_s = self._stream.call.record.audio_s = until_s
        if until_s - self._charged_s >= CHARGE_EVERY_S:
            await self._charge(math.floor(until_s))

    async def settle(self) -> None:
        """At the end: what has not been charged."""
        until_s = math.ceil(self._heard_s)
        try:
            await self._charge(until_s)
        except Overloaded:  # the queue has no room for it, but it was heard
            await self._spend(until_s)
        except ServiceError:
            pass

    async def _charge(self, until_s: int) -> None:
        try:
            await asyncio.to_thread(self._stream.call.audio.charge_stream, until_s)
        except Overloaded:  # nothing was counted: the next try counts all of it
            raise
        except ServiceError:  # it was heard all the same
            await self._spend(until_s)
            raise
        self._count(until_s)

    async def _spend(self, until_s: int) -> None:
        await asyncio.to_thread(self._stream.call.account.spend, self._count(until_s))

    def _count(self, until_s: int) -> int:
        """The seconds that were not counted before."""
        more_s, self._charged_s = until_s - self._charged_s, until_s
        self._stream.live.service.metrics.stream_heard(more_s)
        return more_s
