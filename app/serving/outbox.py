"""Outbox: what a thread tells, for a coroutine that passes it on."""

from __future__ import annotations

import asyncio
from collections import deque

from app.serving.orders import Event


class Outbox:
    """Create it where the coroutine runs."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()
        self._events: deque[Event] = deque()

    def put(self, event: Event) -> None:
        """Any thread."""
        self._events.append(event)
        self.wake()

    def wake(self) -> None:
        self._loop.call_soon_threadsafe(self._woken.set)

    async def take(self, timeout_s: float) -> list[Event]:
        """All that has been told since the last time; empty if that was nothing for so long."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._woken.wait()
        except TimeoutError:
            return []
        self._woken.clear()
        events = []
        while self._events:
            events.append(self._events.popleft())
        return events
