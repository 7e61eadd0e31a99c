"""Desk: asks the jobs, off the event loop and apart from the threads of other requests.

So that a database that is slow or gone holds up nobody but those who ask for jobs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from app.domain.errors import Overloaded
from app.jobs.database import told_when_unreachable
from app.service.threads import Threads

T = TypeVar("T")

NUM_THREADS = 8
MAX_ASKING = 256
BUSY = "Too many requests ask for jobs at this moment; try again later."
RETRY_AFTER_S = 2


class Desk:
    """For the event loop."""

    def __init__(self) -> None:
        self._threads = Threads(NUM_THREADS, thread_name_prefix="jobs-desk")
        self._num_asking = 0

    async def ask(self, question: Callable[[], T]) -> T:
        """What `question` returns.

        Raises:
            Overloaded: too many others ask, or the database cannot be reached.
            ServiceError: from `question`.
        """
        if self._num_asking >= MAX_ASKING:
            raise Overloaded(BUSY, RETRY_AFTER_S)
        self._num_asking += 1
        try:
            return await asyncio.wrap_future(self._threads.start(told_when_unreachable(question)))
        finally:
            self._num_asking -= 1
