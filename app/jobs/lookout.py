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
from app.jobs.job import JobState
from app.jobs.queue import JobQueue
from app.jobs.tables import deliveries, jobs

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
        crew: Crew,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._queue = queue
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
            try:
                self._look()
            except (ServiceError, SQLAlchemyError) as error:  # the keeper complains
                log.debug("no look at the jobs: %s", type(error).__name__)
                self._closed.wait(LOOK_S)
            except Exception:  # without this thread, nothing begins any more
                log.exception("the lookout of the jobs failed")
                self._closed.wait(LOOK_S)
            else:
                self._queue.wait_for_call(LOOK_S)

    def _look(self) -> None:
        called = self._queue.was_called()
        waits, unsent = self._due()
        if waits:
            self._crew.call()
        if called or waits or unsent or not self._crew.is_idle:
            self._busy_at = time.monotonic()
            self._queue.work()
        elif self._queue.works and time.monotonic() - self._busy_at > QUIET_S:
            self._rest()

    def _rest(self) -> None:
        if self._queue.is_empty():
            self._queue.rest()
        else:
            self._busy_at = time.monotonic()

    def _due(self) -> tuple[bool, bool]:
        """Whether a job waits that may begin, and whether a webhook is to be sent."""
        now = self._clock()
        may_begin = sa.or_(jobs.c.retry_at.is_(None), jobs.c.retry_at <= now)
        waits = sa.exists().where(jobs.c.state == JobState.QUEUED, may_begin)
        unsent = sa.exists().where(deliveries.c.next_at <= now)
        with self._database.read() as connection:
            row = connection.execute(sa.select(waits, unsent)).one()
        return bool(row[0]), bool(row[1])
