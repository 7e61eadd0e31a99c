"""Runner: which job is attempted next, and what happens when an attempt fails."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import sqlalchemy as sa
from structlog.contextvars import bound_contextvars

from app.domain.errors import (
    Cancelled,
    DatabaseUnavailable,
    RateLimited,
    ServiceError,
    ShuttingDown,
    StageFailed,
)
from app.jobs.crew import Crew
from app.jobs.database import patiently
from app.jobs.door import Door
from app.jobs.idempotency import Idempotency
from app.jobs.job import Job, JobRequest, JobState
from app.jobs.keeper import Keeper, Watch
from app.jobs.kept_audio import is_wanted
from app.jobs.rescue import Interrupted
from app.jobs.run import Run, Superseded
from app.jobs.runs import Runs
from app.jobs.sources import Sources
from app.jobs.steps import Steps
from app.jobs.store import JobStore
from app.observability.record import RequestRecord
from app.service.service import Service

log = logging.getLogger(__name__)

T = TypeVar("T")

BACKOFF = 4  # each wait for a retry is as many times longer
LONGEST_WAIT_S = 3600  # that a server which is down may ask for
KIND = "job"
HAND_OVER_PATIENCE_S = 2.0
HAND_OVER_S = 2.0  # so that a process that ends does not take its own jobs again
INTERRUPTED = "The job ended its process or was interrupted each time that it was tried."
FAILED = "A stage failed unexpectedly."
# In log and metrics. Ended: nobody wants it any more, or another process goes on.
STATUS_DONE, STATUS_REFUSED, STATUS_FAILED, STATUS_ENDED = 200, 422, 500, 499


@dataclass(frozen=True, slots=True)
class RunnerOptions:
    """`num_workers`: jobs at a time in this process."""

    timeout_s: float
    max_attempts: int
    retry_s: float
    num_workers: int


class Runner:
    def __init__(
        self,
        service: Service,
        store: JobStore,
        runs: Runs,
        keeper: Keeper,
        sources: Sources,
        doors: Mapping[str, Door],
        options: RunnerOptions,
    ) -> None:
        self._service = service
        self._runs = runs
        self._keeper = keeper
        self._sources = sources
        self._options = options
        self._closed = threading.Event()
        self._steps = Steps(store, runs, sources, doors, self._closed.is_set)
        self._last_attempt = threading.Lock()
        self.crew = Crew(options.num_workers, lambda: self._safely(self._work_on_next))

    def close(self) -> None:
        """Begin no more runs, and give up waiting for the database."""
        self._closed.set()
        self.crew.close()

    def refuse(self, request: JobRequest, error: ServiceError, same: Idempotency) -> Job:
        """See `Runs.refuse`."""
        return self._runs.refuse(request, error, same)

    def announce(self, connection: sa.Connection, job: Job) -> None:
        """Tell whom it concerns, in the transaction that ends a job without a run."""
        self._runs.announce(connection, job)

    def hand_over(self) -> None:
        """Give the jobs that run back to the queue. What their runs still do is refused."""
        for run in self._keeper.hand_over(HAND_OVER_PATIENCE_S):
            try:
                self._runs.again(run, HAND_OVER_S, counts=False)
            except Superseded:
                log.debug("job %s has ended meanwhile", run.job.id)

    def look(self) -> None:
        """Begin a job that waits, if this process has room for it. Returns at once, and raises
        nothing.
        """
        self.crew.call()

    def _safely(self, work: Callable[[], bool]) -> bool:
        """The value of `work`; false if it failed."""
        try:
            return work()
        except DatabaseUnavailable:
            log.error("a job is left to others: the database cannot be reached")
        except Exception:
            log.exception("a job failed unexpectedly")
        return False

    def _work_on_next(self) -> bool:
        """An attempt at a job that was interrupted, else at the one whose turn it is; from its
        source to its result. False: there is none.
        """
        if self._is_ending:
            return False
        interrupted = self._patiently(self._runs.interrupted)
        return any(map(self._go_on_with, interrupted)) or self._begin(self._runs.begin_next)

    def _go_on_with(self, job: Interrupted) -> bool:
        """False also if this may be its last attempt, and another job is at that."""
        if job.attempts < self._last:
            return self._begin(lambda: self._runs.begin(job.id))
        if not self._last_attempt.acquire(blocking=False):
            return False
        try:
            return self._begin(lambda: self._runs.begin(job.id))
        finally:
            self._last_attempt.release()

    @property
    def _is_ending(self) -> bool:
        return self._closed.is_set() or self._service.admission.closed

    @property
    def _last(self) -> int:
        """After so many interrupted runs, the next one is the last. Runs one of these at a time: it
        may be what ends processes, and would take along others that were beside it each time.
        """
        return max(1, self._options.max_attempts - 1)

    def _begin(self, begin: Callable[[], Run | None]) -> bool:
        """Whether there was a run."""
        run = self._patiently(begin)
        if run is not None:
            self.crew.call()  # there may be more, and room for them
            with bound_contextvars(request_id=run.job.id):
                self._attempt_fenced(run)
        return run is not None

    def _attempt_fenced(self, run: Run) -> None:
        try:
            self._attempt(run)
        except Superseded:
            log.warning(
                "the result of job %s is refused: another process has taken it over", run.job.id
            )

    def _patiently(self, write: Callable[[], T]) -> T:
        return patiently(write, self._closed.is_set)

    # -- one attempt -----------------------------------------------------------------------------

    def _attempt(self, run: Run) -> None:
        if run.job.attempts > self._options.max_attempts:
            self._fail(run, StageFailed(INTERRUPTED), counts=False)
            return
        job = run.job
        record = RequestRecord(
            job.id, "JOB", f"/{job.request.door}", f"job/{job.request.door}",
            model=job.request.options.model, client_name=job.request.client,
        )  # fmt: skip
        with self._keeper.watching(run) as watch:
            try:
                self._through_steps(run, watch, record)
                record.status = STATUS_DONE
            except (Superseded, DatabaseUnavailable):
                record.error = Cancelled.__name__
                raise
            except ServiceError as error:
                self._note(record, error)
                self._settle(run, watch, error)
            except Exception:  # the boundary of a job
                log.exception("job %s: a stage failed unexpectedly", job.id)
                self._note(record, StageFailed(FAILED))
                self._settle(run, watch, StageFailed(FAILED))
            finally:
                record.end()
                self._service.report(record)

    def _through_steps(self, run: Run, watch: Watch, record: RequestRecord) -> None:
        job = run.job
        entering = self._service.calls.enter(
            KIND, record, job.request.client, job.request.account,
            background=True, timeout_s=self._options.timeout_s,
        )  # fmt: skip
        with entering as call:
            watch.work = call.work
            if watch.handed_over:
                watch.hand_over()
            if watch.cancel_requested or job.cancel_requested:
                watch.cancel()
            call.work.check()
            self._steps.take(run, watch, call)
        self._count(JobState.DONE)
        if not is_wanted(job.request):
            self._discard(job)  # else what is kept, or at least the only copy, stays

    # -- what happens then -----------------------------------------------------------------------

    def _note(self, record: RequestRecord, error: ServiceError) -> None:
        record.error = type(error).__name__
        record.status = STATUS_REFUSED if error.is_permanent else STATUS_FAILED
        if isinstance(error, Cancelled | ShuttingDown):
            record.status = STATUS_ENDED

    def _settle(self, run: Run, watch: Watch, error: ServiceError) -> None:
        if watch.superseded:
            raise Superseded
        if isinstance(error, Cancelled):
            self._patiently(lambda: self._runs.cancelled(run))
            self._count(JobState.CANCELLED)
            self._discard(run.job)
        elif isinstance(error, ShuttingDown):
            self._runs.again(run, HAND_OVER_S, counts=False)
        elif isinstance(error, RateLimited):
            wait_s = float(error.retry_after_s or self._options.retry_s)
            self._patiently(lambda: self._runs.again(run, wait_s, error, counts=False))
        elif error.is_permanent or run.job.attempts >= self._options.max_attempts:
            self._fail(run, error)
        else:
            self._again(run, error)

    def _discard(self, job: Job) -> None:
        """Delete the upload. If that fails, retention does it."""
        try:
            self._sources.discard(job.request.source)
        except (ServiceError, OSError) as error:
            log.warning("the upload of job %s stays for now: %s", job.id, error)

    def _again(self, run: Run, error: ServiceError) -> None:
        delay_s = self._options.retry_s * BACKOFF ** (run.job.attempts - 1)
        delay_s = max(delay_s, min(error.retry_after_s or 0, LONGEST_WAIT_S))
        log.warning("job %s is tried again in %.0f s: %s", run.job.id, delay_s, error.message)
        self._patiently(lambda: self._runs.again(run, delay_s, error))

    def _fail(self, run: Run, error: ServiceError, counts: bool = True) -> Job:
        log.warning("job %s failed: %s", run.job.id, error.message)
        failed = self._patiently(lambda: self._runs.fail(run, error, counts))
        self._count(JobState.FAILED)
        return failed

    def _count(self, outcome: JobState) -> None:
        self._service.metrics.job_ended(outcome)
