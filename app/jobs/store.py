"""JobStore: accepts jobs, and answers what is known about them. The tables are the truth."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from typing import Any

import sqlalchemy as sa
from pydantic import JsonValue

from app.domain.errors import Overloaded, UnknownJob
from app.domain.transcript import Transcript
from app.jobs.database import Database
from app.jobs.idempotency import Idempotency, IdempotencyKeys, give_key
from app.jobs.job import ENDED, Job, JobRequest, JobState, Upload
from app.jobs.queue import JobQueue
from app.jobs.rows import CLASSES, job_of, new_row, queue_priority, select_job
from app.jobs.tables import jobs, transcripts, turns
from app.jobs.transcripts import unpack

JOBS_QUEUE = "jobs"
PAGE = 1000  # rows read at a time
JOB_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
RETRY_AFTER_S = 30


class JobStore:
    def __init__(
        self,
        database: Database,
        queue: JobQueue,
        executor: str,
        max_jobs: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.database = database
        self.queue = queue
        self.executor = executor
        self._max_jobs = max_jobs
        self._clock = clock
        self.keys = IdempotencyKeys(database, executor, clock)

    # -- accepting -------------------------------------------------------------------------------

    def submit(self, request: JobRequest, same: Idempotency | None = None) -> Job:
        """A new job, queued.

        Its turn comes after the client's earlier jobs, and as if the client had only begun to queue
        when the job that started last was queued. So a client with a thousand jobs does not hold up
        the first of another. Source: start-time fair queueing, Goyal et al. 1996.

        Raises:
            Overloaded: too many jobs wait.
            StillAccepting: another process has taken the reserved key meanwhile.
            DatabaseUnavailable: it is not known whether the job was accepted.
        """
        job_id = str(uuid.uuid4())
        if same is not None:
            self.keys.let_go(request.client, same.key)
        with self.database.begin() as connection:
            self._check_room(connection)
            rank = self._next_rank(connection, request)
            row = new_row(job_id, request, rank, self._clock())
            connection.execute(sa.insert(jobs).values(row))
            if same is not None:
                give_key(connection, request.client, same, self.executor, job_id)
            self.queue.add(connection, JOBS_QUEUE, job_id, queue_priority(row["priority"], rank))
            return job_of(connection.execute(select_job(job_id)).one())

    def check_room(self) -> None:
        """Raises Overloaded if no job would be accepted now."""
        with self.database.read() as connection:
            self._check_room(connection)

    def _check_room(self, connection: sa.Connection) -> None:
        waiting = sa.select(sa.func.count()).where(jobs.c.state == JobState.QUEUED)
        if connection.execute(waiting).scalar_one() >= self._max_jobs:
            raise Overloaded("Too many jobs are waiting; try again later.", RETRY_AFTER_S)

    def _next_rank(self, connection: sa.Connection, request: JobRequest) -> int:
        priority = CLASSES[request.priority]
        turn = sa.select(turns.c.rank).where(turns.c.priority == priority)
        last = sa.select(sa.func.max(jobs.c.rank)).where(
            jobs.c.state == JobState.QUEUED,
            jobs.c.account == (request.account or request.client),
            jobs.c.priority == priority,
        )
        found = (connection.execute(query).scalar() or 0 for query in (turn, last))
        return max(found) + 1

    # -- reading ---------------------------------------------------------------------------------

    def find(self, job_id: str, client: str) -> Job:
        """A client's job. Raises UnknownJob, also for the job of another client."""
        if not JOB_ID.fullmatch(job_id):  # a database may not take what is written in an address
            raise UnknownJob
        with self.database.read() as connection:
            row = connection.execute(select_job(job_id)).one_or_none()
        if row is None or row.client != client:
            raise UnknownJob
        return job_of(row)

    def several(self, job_ids: Collection[str]) -> dict[str, Job]:
        """Those that exist of the jobs with these IDs, by ID."""
        with self.database.read() as connection:
            rows = connection.execute(sa.select(jobs).where(jobs.c.id.in_(job_ids))).all()
        return {row.id: job_of(row) for row in rows}

    def transcript(self, job_id: str) -> Transcript | None:
        """The transcript of a job of which recognition has ended."""
        with self.database.read() as connection:
            body = connection.execute(
                sa.select(transcripts.c.body).where(transcripts.c.job_id == job_id)
            ).scalar()
        return None if body is None else unpack(body)

    def peaks(self, job_id: str) -> bytes | None:
        """The shape of a recording that is kept, see `peaks_of`."""
        with self.database.read() as connection:
            return connection.execute(
                sa.select(transcripts.c.peaks).where(transcripts.c.job_id == job_id)
            ).scalar()

    def counts(self) -> dict[JobState, int]:
        """How many jobs wait and run."""
        with self.database.read() as connection:
            rows = connection.execute(
                sa.select(jobs.c.state, sa.func.count())
                .where(jobs.c.state.in_([JobState.QUEUED, JobState.RUNNING]))
                .group_by(jobs.c.state)
            ).all()
        found: dict[str, int] = dict(row.tuple() for row in rows)
        return {state: found.get(state, 0) for state in (JobState.QUEUED, JobState.RUNNING)}

    # -- ending ----------------------------------------------------------------------------------

    def request_cancel(
        self,
        job_id: str,
        client: str,
        announce: Callable[[sa.Connection, Job], None] = lambda connection, job: None,
    ) -> Job:
        """Cancel a job: at once if it waits, else as soon as its run notices. An ended one stays.
        `announce` is called in the transaction that ends it.

        Raises:
            UnknownJob
        """
        with self.database.begin() as connection:
            row = _locked(connection, job_id, client)
            values: dict[str, Any] = {"cancel_requested": True}
            if row.state == JobState.QUEUED:
                values |= {"state": JobState.CANCELLED, "finished_at": self._clock()}
            if not JobState(row.state).ended:
                change = sa.update(jobs).where(jobs.c.id == job_id)
                connection.execute(change.values(**values, retry_at=None))
            job = job_of(connection.execute(select_job(job_id)).one())
            if row.state == JobState.QUEUED:
                announce(connection, job)
            return job

    def retry(self, job_id: str, client: str, details: Mapping[str, JsonValue] = {}) -> Job:
        """Queue a failed or cancelled job again, with all its attempts. Not one whose upload was
        removed when it was cancelled, nor any other: they stay as they are. `details`: what its
        door knows of it from now on, besides what it knew.

        Raises:
            UnknownJob
        """
        with self.database.begin() as connection:
            row = _locked(connection, job_id, client)
            request = job_of(row).request
            has_source = not isinstance(request.source, Upload)
            if row.state != JobState.FAILED and not (
                row.state == JobState.CANCELLED and has_source
            ):
                return job_of(row)
            request = request.model_copy(update={"details": {**request.details, **details}})
            rank = self._next_rank(connection, request)
            connection.execute(
                sa.update(jobs)
                .where(jobs.c.id == job_id)
                .values(
                    request=request.model_dump(mode="json"),
                    state=JobState.QUEUED,
                    step=None,
                    progress=0.0,
                    attempts=0,
                    rank=rank,
                    finished_at=None,
                    cancel_requested=False,
                    error_code="",
                    error="",
                )
            )
            self.queue.add(connection, JOBS_QUEUE, job_id, queue_priority(row.priority, rank))
            return job_of(connection.execute(select_job(job_id)).one())

    def delete(self, job_id: str) -> bool:
        """Remove an ended job with all that belongs to it in the tables. False: it has not ended,
        as it is tried again, or is gone.
        """
        ended = (jobs.c.id == job_id) & jobs.c.state.in_(ENDED)
        with self.database.begin() as connection:
            return connection.execute(sa.delete(jobs).where(ended)).rowcount > 0

    def withdraw(self, job_id: str) -> bool:
        """Remove a job that no run has begun. False: one has."""
        waits = (jobs.c.id == job_id) & (jobs.c.state == JobState.QUEUED)
        with self.database.begin() as connection:
            unbegun = sa.delete(jobs).where(waits, jobs.c.started_at.is_(None))
            return connection.execute(unbegun).rowcount > 0

    def uploads_in_use(self, names: Collection[str]) -> set[str]:
        """Those of some uploads that belong to jobs."""
        wanted, found = set(names), set()
        with self.database.read() as connection:
            # not by a condition: PostgreSQL refuses to look into JSON with escaped NULs
            for request in connection.scalars(sa.select(jobs.c.request)).yield_per(PAGE):
                found.add(request["source"].get("name"))
        return wanted & found

    def expired(self, before: float, limit: int) -> list[Job]:
        """Jobs that ended before a time, oldest first."""
        with self.database.read() as connection:
            rows = connection.execute(
                sa.select(jobs)
                .where(jobs.c.finished_at < before)
                .order_by(jobs.c.finished_at)
                .limit(limit)
            ).all()
        return [job_of(row) for row in rows]


def _locked(connection: sa.Connection, job_id: str, client: str) -> sa.Row[Any]:
    """A client's job, which nobody else changes until the transaction ends. Raises UnknownJob."""
    row = connection.execute(select_job(job_id).with_for_update()).one_or_none()
    if row is None or row.client != client:
        raise UnknownJob
    return row
