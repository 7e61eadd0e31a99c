"""What the runs of jobs write. Each write carries the run's ID, and only the last run's count.

So the late result of a process that others believed dead is refused.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from app.domain.errors import ServiceError
from app.domain.transcript import Transcript
from app.jobs.database import Database
from app.jobs.job import ENDED, Job, JobRequest, JobState, JobStep
from app.jobs.queue import JobQueue
from app.jobs.rows import job_of, new_row, queue_priority, select_job
from app.jobs.store import JOBS_QUEUE, Idempotency, keep_key
from app.jobs.tables import jobs, transcripts, turns
from app.jobs.transcripts import pack

# In the transaction that ends a job.
Ending = Callable[[sa.Connection, Job, Transcript | None], None]


class Superseded(Exception):
    """Another run has taken this one's place."""


@dataclass(frozen=True, slots=True)
class Run:
    """One attempt at a job."""

    id: str
    job: Job


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is. `progress`: 0 to 100."""

    step: JobStep
    progress: float
    audio_s: float | None = None


class Runs:
    def __init__(
        self,
        database: Database,
        queue: JobQueue,
        executor: str,
        ending: Ending,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._queue = queue
        self._executor = executor
        self._ending = ending
        self._clock = clock

    def begin(self, job_id: str) -> Run | None:
        """A run of a job that waits, or whose process has ended. None if there is nothing to do."""
        run_id = uuid.uuid4().hex
        with self._database.begin() as connection:
            row = connection.execute(select_job(job_id).with_for_update()).one_or_none()
            if row is None or JobState(row.state) in ENDED:
                return None
            self._advance_turn(connection, row.priority, row.rank)
            connection.execute(
                sa.update(jobs)
                .where(jobs.c.id == job_id)
                .values(
                    state=JobState.RUNNING,
                    step=JobStep.FETCH,
                    progress=0.0,
                    attempts=jobs.c.attempts + 1,
                    started_at=self._clock(),
                    retry_at=None,
                    run_id=run_id,
                    executor=self._executor,
                )
            )
            job = job_of(connection.execute(select_job(job_id)).one())
        return Run(run_id, job)

    def refuse(self, request: JobRequest, error: ServiceError, same: Idempotency) -> Job:
        """A job that failed before it could be queued. Whoever hears of its end is told."""
        job_id, now = str(uuid.uuid4()), self._clock()
        row = new_row(job_id, request, 0, now) | {
            "state": JobState.FAILED,
            "finished_at": now,
            "error_code": error.code,
            "error": error.message,
        }
        with self._database.begin() as connection:
            connection.execute(sa.insert(jobs).values(row))
            keep_key(connection, request.client, same, job_id)
            job = job_of(connection.execute(select_job(job_id)).one())
            self._ending(connection, job, None)
        return job

    def _advance_turn(self, connection: sa.Connection, priority: int, rank: int) -> None:
        dialect = sqlite if self._database.is_sqlite else postgresql
        insert = dialect.insert(turns).values(priority=priority, rank=rank)
        connection.execute(
            insert.on_conflict_do_update(
                index_elements=[turns.c.priority],
                set_={"rank": rank},
                where=turns.c.rank < rank,
            )
        )

    def tell(self, progress: Mapping[str, Progress]) -> dict[str, bool]:
        """Write the progress of runs. For each that is still the job's: whether to cancel it."""
        with self._database.begin() as connection:
            return {
                run_id: bool(cancel)
                for run_id, told in progress.items()
                if (cancel := self._tell(connection, run_id, told)) is not None
            }

    def _tell(self, connection: sa.Connection, run_id: str, told: Progress) -> bool | None:
        values: dict[str, Any] = {"step": told.step, "progress": round(told.progress, 1)}
        if told.audio_s is not None:
            values["audio_s"] = told.audio_s
        return connection.execute(
            sa.update(jobs)
            .where(jobs.c.run_id == run_id, jobs.c.state == JobState.RUNNING)
            .values(values)
            .returning(jobs.c.cancel_requested)
        ).scalar()

    def keep(self, run: Run, transcript: Transcript) -> None:
        """Keep the transcript, so that a later attempt need not compute it again.

        Raises:
            Superseded
        """
        body = pack(transcript)
        with self._database.begin() as connection:
            self._update(connection, run, step=JobStep.STORE)
            connection.execute(sa.delete(transcripts).where(transcripts.c.job_id == run.job.id))
            connection.execute(sa.insert(transcripts).values(job_id=run.job.id, body=body))

    def succeed(
        self,
        run: Run,
        transcript: Transcript,
        published: Mapping[str, Any],
        processing_s: float | None,
    ) -> Job:
        """Raises Superseded."""
        return self._end(
            run,
            transcript,
            state=JobState.DONE,
            progress=100.0,
            published=dict(published),
            language=transcript.language,
            model=transcript.model,
            audio_s=transcript.duration_s,
            processing_s=processing_s,
            warnings=[warning.sentence for warning in transcript.warnings],
            error_code="",
            error="",
        )

    def fail(self, run: Run, error: ServiceError) -> Job:
        """Raises Superseded."""
        return self._end(
            run, None, state=JobState.FAILED, error_code=error.code, error=error.message
        )

    def cancelled(self, run: Run) -> Job:
        """Raises Superseded."""
        return self._end(run, None, state=JobState.CANCELLED)

    def _end(self, run: Run, transcript: Transcript | None, **values: Any) -> Job:
        with self._database.begin() as connection:
            self._update(connection, run, step=None, finished_at=self._clock(), **values)
            job = job_of(connection.execute(select_job(run.job.id)).one())
            self._ending(connection, job, transcript)
        return job

    def again(
        self, run: Run, delay_s: float, reason: ServiceError | None = None, counts: bool = True
    ) -> None:
        """Queue the job again. `counts`: the attempt was one; not if the process only ends.

        Raises:
            Superseded
        """
        values: dict[str, Any] = {"retry_at": self._clock() + delay_s} if delay_s else {}
        if reason is not None:
            values |= {"error_code": reason.code, "error": reason.message}
        if not counts:
            values["attempts"] = jobs.c.attempts - 1
        with self._database.begin() as connection:
            self._update(
                connection, run, state=JobState.QUEUED, step=None, progress=0.0, run_id=None,
                executor=None, **values,
            )  # fmt: skip
            row = connection.execute(select_job(run.job.id)).one()
            priority = queue_priority(row.priority, row.rank)
            self._queue.add(connection, JOBS_QUEUE, run.job.id, priority, delay_s)

    def _update(self, connection: sa.Connection, run: Run, **values: Any) -> None:
        updated = connection.execute(
            sa.update(jobs)
            .where(
                jobs.c.id == run.job.id,
                jobs.c.run_id == run.id,
                jobs.c.state == JobState.RUNNING,
            )
            .values(**values)
        )
        if updated.rowcount == 0:
            raise Superseded
