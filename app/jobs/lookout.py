"""Lookout: sees work that comes due, and lets the queue rest while there is none.

The queue's own threads ask the database several times a second, which costs more than everything
else that an idle process does. One question about our tables once a second costs little.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from app.domain.errors import ServiceError
from app.jobs.crew import Crew
from app.jobs.database import Database
from app.jobs.queue import JobQueue
from app.jobs.runs import Runs
from app.jobs.tables import deliveries

log = logging.getLogger(__name__)

LOOK_S = 1.0
QUIET_S = 30.0  # with nothing to do, before the queue rests
CLOSE_S = 2.0


class Lookout:
    """A thread. `clock`: of the times in the tables."""

    def __init__(
        self,
        database: Database,
        queue: JobQueue,
        runs: Runs,
        crew: Crew,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._queue = queue
        self._runs = runs
        self._crew = crew
        self._clock = clock
        self._closed = threading.Event()
        self._busy_at = time.monotonic()
        self._thread = threading.Thread(target=self._loop, name="job-lookout", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._queue.wake()  # it may wait there
        if self._thread.is_alive():
            self._thread.join(CLOSE_S)

    def _loop(self) -> None:
        while not self._closed.is_set():
            called = self._queue.was_called()
            try:
                self._look(called)
            except (ServiceError, SQLAlchemyError) as error:  # the keeper complains
                log.debug("no look at the jobs: %s", type(error).__name__)
                self._look_later(called)
            except Exception:  # without this thread, nothing begins any more
                log.exception("the lookout of the jobs failed")
                self._look_later(called)
            else:
                self._queue.wait_for_call(LOOK_S)

    def _look_later(self, called: bool) -> None:
        if called:
            self._queue.wake()  # it has not been answered
        self._closed.wait(LOOK_S)

    def _look(self, called: bool) -> None:
        waits = self._runs.any_to_begin()
        if waits:
            self._crew.call()
        if called or waits or self._is_unsent() or not self._crew.is_idle:
            self._busy_at = time.monotonic()
            self._queue.work()
        elif self._queue.works and time.monotonic() - self._busy_at > QUIET_S:
            self._rest()

    def _rest(self) -> None:
        if self._queue.is_empty():
            self._queue.rest()
        else:
            self._busy_at = time.monotonic()

    def _is_unsent(self) -> bool:
        """Whether a webhook is to be sent now."""
        unsent = sa.exists().where(deliveries.c.next_at <= self._clock())
        with self._database.read() as connection:
            return bool(connection.execute(sa.select(unsent)).scalar())
