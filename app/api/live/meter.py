"""The sound of a stream, counted as it comes against its client's limit."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress

from app.domain.errors import ServiceError
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
        with suppress(ServiceError):
            await self._charge(math.ceil(self._heard_s))

    async def _charge(self, until_s: int) -> None:
        more_s, self._charged_s = until_s - self._charged_s, until_s
        self._stream.live.service.metrics.stream_heard(more_s)
        call = self._stream.call
        try:
            await asyncio.to_thread(call.audio.charge_stream, until_s)
        except ServiceError:  # it was heard all the same
            await asyncio.to_thread(call.account.spend, more_s)
            raise
