"""Rescue: jobs that nobody works on and that are not in the queue, either.

The queue and our tables change in one transaction wherever they can. Where a run ends while the
database is gone, what comes next cannot be written, and the queue may take the job for done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Any

import sqlalchemy as sa

from app.jobs.database import Database
from app.jobs.executors import Executors
from app.jobs.job import JobState
from app.jobs.queue import JobQueue
from app.jobs.rows import queue_priority
from app.jobs.store import JOBS_QUEUE
from app.jobs.tables import jobs

SETTLED_S = 10.0  # a run that has just begun may not be among those of its process yet
BATCH = 100  # of those that wait: what the queue has lost comes to the front some time


class Rescue:
    def __init__(
        self,
        database: Database,
        queue: JobQueue,
        executors: Executors,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._queue = queue
        self._executors = executors
        self._clock = clock

    def rescue(self, own: Collection[str]) -> list[str]:
        """Queue such jobs again. Returns their IDs. `own`: the IDs of this process's runs."""
        rows = self._active()
        others = self._executors.living() - {self._executors.id}
        lost = {row.id: row for row in rows if row.run_id not in own and row.executor not in others}
        for job_id in self._queue.known(lost):
            lost.pop(job_id, None)
        return [row.id for row in lost.values() if self._queue_again(row)]

    def _active(self) -> list[sa.Row[Any]]:
        """The jobs that run, and the first of those that wait."""
        due = sa.or_(jobs.c.retry_at.is_(None), jobs.c.retry_at < self._clock())
        running = sa.select(jobs).where(
            jobs.c.state == JobState.RUNNING, jobs.c.started_at < self._clock() - SETTLED_S
        )
        waiting = (
            sa.select(jobs)
            .where(jobs.c.state == JobState.QUEUED, due)
            .order_by(jobs.c.priority, jobs.c.rank)
            .limit(BATCH)
        )
        with self._database.read() as connection:
            return [row for query in (running, waiting) for row in connection.execute(query).all()]

    def _queue_again(self, row: sa.Row[Any]) -> bool:
        same_run = jobs.c.run_id.is_(None) if row.run_id is None else jobs.c.run_id == row.run_id
        with self._database.begin() as connection:
            updated = connection.execute(
                sa.update(jobs)
                .where(jobs.c.id == row.id, same_run, jobs.c.state == row.state)
                # one that ran stays so: it counts as interrupted, see Runner
                .values(step=None, progress=0.0, run_id=None, executor=None)
            )
            if updated.rowcount:
                priority = queue_priority(row.priority, row.rank)
                self._queue.add(connection, JOBS_QUEUE, row.id, priority)
        return updated.rowcount > 0
