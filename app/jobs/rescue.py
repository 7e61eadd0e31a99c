"""Rescue: jobs that run by the tables, but in no process."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

import sqlalchemy as sa

from app.jobs.database import Database
from app.jobs.executors import Executors
from app.jobs.job import JobState
from app.jobs.tables import jobs

SETTLED_S = 10.0  # a run that has just begun may not be among those of its process yet


@dataclass(frozen=True, slots=True)
class Interrupted:
    """A job whose process has ended, or has let go of it. `attempts`: that one included."""

    id: str
    attempts: int


def of_others(executor: str) -> sa.ColumnElement[bool]:
    """That a job runs, but not in this process."""
    elsewhere = sa.or_(jobs.c.executor.is_(None), jobs.c.executor != executor)
    return sa.and_(jobs.c.state == JobState.RUNNING, elsewhere)


def interrupted(
    database: Database, executor: str, living: Callable[[], Collection[str]]
) -> list[Interrupted]:
    """Those whose turn it is first come first."""
    query = (
        sa.select(jobs.c.id, jobs.c.attempts, jobs.c.executor)
        .where(of_others(executor))
        .order_by(jobs.c.priority, jobs.c.rank, jobs.c.created_at)
    )
    with database.read() as connection:
        rows = connection.execute(query).all()
    # asked after the jobs: a process has a heartbeat before it has a job
    alive = living() if rows else ()
    return [Interrupted(row.id, row.attempts) for row in rows if row.executor not in alive]


class Rescue:
    """Where a run ends while the database is gone, its end cannot be written: the process lives,
    and the job seems to run in it.
    """

    def __init__(
        self, database: Database, executors: Executors, clock: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._executors = executors
        self._clock = clock

    def let_go(self, own: Collection[str]) -> list[str]:
        """Make such jobs interrupted ones. Returns their IDs. `own`: the IDs of this process's
        runs.
        """
        stranded = (
            jobs.c.state == JobState.RUNNING,
            jobs.c.executor == self._executors.id,
            jobs.c.started_at < self._clock() - SETTLED_S,
            jobs.c.run_id.not_in(own),
        )
        if not self._any(stranded):
            return []  # nothing is written, which would keep others from it
        free = {"step": None, "progress": 0.0, "run_id": None, "executor": None}
        with self._database.begin() as connection:
            update = sa.update(jobs).where(*stranded).values(free).returning(jobs.c.id)
            return list(connection.scalars(update))

    def _any(self, conditions: Collection[sa.ColumnElement[bool]]) -> bool:
        with self._database.read() as connection:
            return bool(connection.execute(sa.select(sa.exists().where(*conditions))).scalar())
