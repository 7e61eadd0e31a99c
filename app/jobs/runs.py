"""What the runs of jobs write. Each write carries the run's ID, and only the last run's count.

So the late result of a process that others believed dead is refused.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from app.domain.errors import ServiceError
from app.domain.transcript import Transcript
from app.jobs.database import Database
from app.jobs.idempotency import Idempotency, give_key
from app.jobs.job import ENDED, Job, JobRequest, JobState, JobStep
from app.jobs.kept_audio import KeptAudio
from app.jobs.queue import JobQueue
from app.jobs.rescue import Interrupted, interrupted, of_others
from app.jobs.rows import job_of, new_row, queue_priority, select_job
from app.jobs.run import Progress, Run, Superseded
from app.jobs.spoken import words_of
from app.jobs.store import JOBS_QUEUE
from app.jobs.tables import jobs, spoken, transcripts, turns
from app.jobs.transcripts import pack

# In the transaction that ends a job.
Ending = Callable[[sa.Connection, Job, Transcript | None], None]


EARLY_S = 1.0  # so much earlier than planned an attempt may begin: clocks differ


class Runs:
    def __init__(
        self,
        database: Database,
        queue: JobQueue,
        executor: str,
        ending: Ending,
        living: Callable[[], Collection[str]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`living`: the executors that live, asked when a job has a run already."""
        self._database = database
        self._queue = queue
        self._executor = executor
        self._ending = ending
        self._living = living
        self._clock = clock

    def begin(self, job_id: str) -> Run | None:
        """A run of a job that waits, or whose process has ended. None if there is nothing to do:
        another process may have been faster.
        """
        seen = self._row(job_id)
        if seen is None or (seen.executor is not None and seen.executor in self._living()):
            return None
        with self._database.begin() as connection:
            row = connection.execute(select_job(job_id).with_for_update()).one_or_none()
            if row is None or JobState(row.state) in ENDED or row.run_id != seen.run_id:
                return None
            if row.state == JobState.QUEUED and (row.retry_at or 0.0) > self._clock() + EARLY_S:
                return None
            return self._begin(connection, row)

    def interrupted(self) -> list[Interrupted]:
        """The jobs whose processes have ended, in turn."""
        return interrupted(self._database, self._executor, self._living)

    def any_to_begin(self) -> bool:
        """Whether a job waits whose time has come, or was interrupted."""
        waits = sa.exists().where(_is_due(self._clock()))
        elsewhere = sa.exists().where(of_others(self._executor))
        with self._database.read() as connection:
            row = connection.execute(sa.select(waits, elsewhere)).one()
        return bool(row[0] or (row[1] and self.interrupted()))

    def begin_next(self) -> Run | None:
        """A run of the job whose turn it is. None if none waits."""
        first = (
            sa.select(jobs)
            .where(_is_due(self._clock()))
            .order_by(jobs.c.priority, jobs.c.rank, jobs.c.created_at)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        with self._database.begin() as connection:
            row = connection.execute(first).one_or_none()
            return None if row is None else self._begin(connection, row)

    def _begin(self, connection: sa.Connection, row: sa.Row[Any]) -> Run:
        run_id = uuid.uuid4().hex
        self._advance_turn(connection, row.priority, row.rank)
        connection.execute(
            sa.update(jobs)
            .where(jobs.c.id == row.id)
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
        return Run(run_id, job_of(connection.execute(select_job(row.id)).one()))

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
            give_key(connection, request.client, same, self._executor, job_id)
            job = job_of(connection.execute(select_job(job_id)).one())
            self._ending(connection, job, None)
        return job

    def _advance_turn(self, connection: sa.Connection, priority: int, rank: int) -> None:
        insert = self._database.insert(turns).values(priority=priority, rank=rank)
        connection.execute(
            insert.on_conflict_do_update(
                index_elements=[turns.c.priority],
                set_={"rank": rank},
                where=turns.c.rank < rank,
            )
        )

    def tell(self, progress: Iterable[tuple[Run, Progress]]) -> dict[str, bool]:
        """Write the progress of runs. For the ID of each that is still the job's: whether to cancel
        it.
        """
        ordered = sorted(progress, key=lambda one: one[0].job.id)  # all lock rows in one order
        with self._database.begin() as connection:
            return {
                run.id: bool(cancel)
                for run, told in ordered
                if (cancel := self._tell(connection, run, told)) is not None
            }

    def _tell(self, connection: sa.Connection, run: Run, told: Progress) -> bool | None:
        values: dict[str, Any] = {"step": told.step, "progress": round(told.progress, 1)}
        if told.audio_s is not None:
            values["audio_s"] = told.audio_s
        return connection.execute(
            sa.update(jobs).where(*_current(run)).values(values).returning(jobs.c.cancel_requested)
        ).scalar()

    def keep(self, run: Run, transcript: Transcript, peaks: bytes = b"") -> None:
        """Keep the transcript, so that a later attempt need not compute it again. `peaks`: of a
        recording that is to be kept with it, see `peaks_of`.

        Raises:
            Superseded
        """
        rows: dict[sa.Table, dict[str, Any]] = {
            transcripts: {"body": pack(transcript), "peaks": peaks},
            spoken: {"words": words_of(transcript)},
        }
        with self._database.begin() as connection:
            self._update(connection, run, step=JobStep.STORE)
            for table, values in rows.items():
                connection.execute(sa.delete(table).where(table.c.job_id == run.job.id))
                connection.execute(sa.insert(table).values(job_id=run.job.id, **values))

    def keep_audio(self, run: Run, kept: KeptAudio) -> None:
        """Note that the recording is kept, beside the transcript. Raises Superseded."""
        with self._database.begin() as connection:
            self._update(connection, run, media_type=kept.media_type, media_bytes=kept.num_bytes)

    def succeed(
        self,
        run: Run,
        transcript: Transcript,
        published: Mapping[str, Any],
        processing_s: float | None,
    ) -> Job:
        """The job, which is done; or cancelled, if that was asked for until now.

        Raises:
            Superseded
        """
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

    def fail(self, run: Run, error: ServiceError, counts: bool = True) -> Job:
        """`counts`: the run was an attempt. Raises Superseded."""
        return self._end(
            run,
            None,
            state=JobState.FAILED,
            error_code=error.code,
            error=error.message,
            attempts=jobs.c.attempts - (0 if counts else 1),
        )

    def cancelled(self, run: Run) -> Job:
        """Raises Superseded."""
        return self._end(run, None, state=JobState.CANCELLED)

    def _end(self, run: Run, transcript: Transcript | None, **values: Any) -> Job:
        with self._database.begin() as connection:
            return self._end_within(connection, run, transcript, **values)

    def _end_within(
        self, connection: sa.Connection, run: Run, transcript: Transcript | None, **values: Any
    ) -> Job:
        row = connection.execute(select_job(run.job.id).with_for_update()).one_or_none()
        if row is not None and row.cancel_requested and values["state"] is JobState.DONE:
            transcript, values = None, {"state": JobState.CANCELLED}
        if row is not None and (row.run_id, row.state) == (run.id, values["state"]):
            return job_of(row)  # written before: the answer was lost with a connection
        now = self._clock()
        self._update(connection, run, step=None, finished_at=now, executor=None, **values)
        job = job_of(connection.execute(select_job(run.job.id)).one())
        self._ending(connection, job, transcript)
        return job

    def again(
        self, run: Run, delay_s: float, reason: ServiceError | None = None, counts: bool = True
    ) -> None:
        """Queue the job again. `counts`: the attempt was one; not if the process only ends.
        A job that somebody wants to cancel is cancelled instead.

        Raises:
            Superseded
        """
        values: dict[str, Any] = {"retry_at": self._clock() + delay_s} if delay_s else {}
        if reason is not None:
            values |= {"error_code": reason.code, "error": reason.message}
        if not counts:
            values["attempts"] = jobs.c.attempts - 1
        with self._database.begin() as connection:
            row = connection.execute(select_job(run.job.id).with_for_update()).one_or_none()
            if row is not None and row.cancel_requested:
                self._end_within(connection, run, None, state=JobState.CANCELLED)
                return
            self._update(
                connection, run, state=JobState.QUEUED, step=None, progress=0.0, run_id=None,
                executor=None, **values,
            )  # fmt: skip
            self._enqueue(connection, run.job.id, delay_s)

    def announce(self, connection: sa.Connection, job: Job) -> None:
        """What else happens in the transaction that ends a job."""
        self._ending(connection, job, None)

    def _enqueue(self, connection: sa.Connection, job_id: str, delay_s: float) -> None:
        row = connection.execute(select_job(job_id)).one_or_none()
        if row is not None and not JobState(row.state).ended:
            priority = queue_priority(row.priority, row.rank)
            self._queue.add(connection, JOBS_QUEUE, job_id, priority, delay_s)

    def _row(self, job_id: str) -> sa.Row[Any] | None:
        with self._database.read() as connection:
            return connection.execute(select_job(job_id)).one_or_none()

    def _update(self, connection: sa.Connection, run: Run, **values: Any) -> None:
        updated = connection.execute(sa.update(jobs).where(*_current(run)).values(**values))
        if updated.rowcount == 0:
            raise Superseded


def _is_due(now: float) -> sa.ColumnElement[bool]:
    """That a job waits, and that its next attempt is not to come later."""
    due = sa.or_(jobs.c.retry_at.is_(None), jobs.c.retry_at <= now)
    return sa.and_(jobs.c.state == JobState.QUEUED, due)


def _current(run: Run) -> tuple[sa.ColumnElement[bool], ...]:
    """That a job's row is still this run's."""
    return jobs.c.id == run.job.id, jobs.c.run_id == run.id, jobs.c.state == JobState.RUNNING
