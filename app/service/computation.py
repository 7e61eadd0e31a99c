"""Computation: one transcript in the making, or finished, and the members that wait for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from queue import SimpleQueue

from app.domain.transcript import Transcript
from app.engine.work import Work
from app.observability.record import RequestRecord
from app.pipeline.flow import Listener
from app.service.ticket import Ticket

Telling = Callable[[Listener], None]  # tells a listener one thing


class Computation:
    """One transcript in the making, or finished, and those who wait for it."""

    def __init__(self, key: Hashable, asked: Ticket, record: RequestRecord) -> None:
        """`asked`, `record`: of the request on whose behalf it is computed."""
        self.key = key
        self.work = Work(record.request_id, 0.0, record.stages)
        self.ticket = asked.computed_by(self.work)
        self.record = RequestRecord(record.request_id, "", "", stages=record.stages)
        self.members: set[Member] = set()
        self.told: list[Telling] = []
        self.transcript: Transcript | None = None
        self.error: BaseException | None = None
        self.over = threading.Event()
        self.ended: float | None = None  # time.monotonic()
        self.lingering: threading.Timer | None = None
        self._counted = threading.Lock()  # taken once

    def answer(self, record: RequestRecord) -> Transcript:
        """The transcript, for one of those who wait. Its audio counts for the first one."""
        assert self.transcript is not None
        record.counts = self._counted.acquire(blocking=False)
        return self.transcript

    def tell(self, telling: Telling) -> None:
        self.told.append(telling)
        for member in self.members:
            member.news.put(telling)


class Member:
    """A request that waits for a computation. `is_first`: it is computed on its behalf."""

    def __init__(self, work: Work, is_first: bool) -> None:
        self.work = work
        self.is_first = is_first
        self.since = time.monotonic()
        self.news: SimpleQueue[Telling | None] = SimpleQueue()  # None: no more, or cancelled
        stopped: Future[None] = Future()
        stopped.add_done_callback(lambda _: self.news.put(None))
        work.track(stopped)
        self._stopped = stopped

    def listen(self, listener: Listener) -> bool:
        """Until the end. Whether there was anything to tell.

        Raises:
            Cancelled, ClientGone, DeadlineExceeded, ...: the request is over.
        """
        told = False
        while (telling := self.work.next_of(self.news)) is not None:
            telling(listener)
            told = True
        self.work.check()
        return told

    def end(self) -> None:
        with suppress(InvalidStateError):  # cancelled a moment ago
            self._stopped.set_result(None)
