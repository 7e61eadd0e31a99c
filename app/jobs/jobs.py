"""Jobs: the subsystem as its front doors see it. Its methods block: not for the event loop."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue
from sqlalchemy.exc import SQLAlchemyError

from app.domain.errors import DatabaseUnavailable, NotEnded, ServiceError
from app.domain.transcript import Transcript
from app.jobs.deliveries import (
    DELIVERIES_QUEUE,
    DELIVERY_POLL_S,
    DELIVERY_THREADS,
    Deliveries,
)
from app.jobs.executors import Executors
from app.jobs.history import History
from app.jobs.idempotency import Idempotency
from app.jobs.job import Job, JobRequest, JobState, Source, Upload
from app.jobs.keeper import Keeper
from app.jobs.lookout import Lookout
from app.jobs.queue import JobQueue, Worker
from app.jobs.retention import Retention
from app.jobs.runner import Runner
from app.jobs.store import JOBS_QUEUE, JobStore
from app.storage.objects import ObjectStore

log = logging.getLogger(__name__)

CLOSE_S = 12.0
QUEUE_THREADS = 8  # of the items of jobs, which only have this process look at the tables


@dataclass(frozen=True, slots=True)
class Jobs:
    store: JobStore
    history: History
    queue: JobQueue
    executors: Executors
    keeper: Keeper
    runner: Runner
    lookout: Lookout
    retention: Retention
    uploads: ObjectStore
    deliveries: Deliveries

    def start(self) -> None:
        """Begin to work on jobs, also on those that an earlier process left."""
        self.executors.beat()
        self.queue.start(
            {
                JOBS_QUEUE: Worker(lambda job_id: self.runner.look(), QUEUE_THREADS),
                DELIVERIES_QUEUE: Worker(self.deliveries.handle, DELIVERY_THREADS, DELIVERY_POLL_S),
            }
        )
        self.keeper.start()
        self.lookout.start()

    def close(self) -> None:
        """Give the jobs that run back to the queue, and stop. Takes seconds, whatever is broken."""
        self.runner.close()
        self.deliveries.close()
        closing = threading.Thread(target=self._close, name="jobs-close", daemon=True)
        closing.start()
        closing.join(CLOSE_S)
        if closing.is_alive():
            log.warning("the jobs have not stopped in time; others take them over")
        self.executors.close()

    def _close(self) -> None:
        # The keeper goes on for so long: a process without heartbeats loses its jobs, and attempts.
        steps = (
            self.lookout.close, self.runner.hand_over, self.keeper.close, self.queue.close,
            self.executors.leave,
        )  # fmt: skip
        for step in steps:
            try:
                step()
            except (ServiceError, SQLAlchemyError) as error:
                log.warning("while the jobs stop: %s", error)
        self.store.database.close()

    @contextmanager
    def keeping(self, path: Path) -> Iterator[Source]:
        """Keep a file as the upload of a job that the block submits; not if the block fails.

        Raises:
            DiskFull
        """
        name = secrets.token_hex(16)
        self.uploads.put(path, name, lambda: None)
        try:
            yield Upload(name=name)
        except DatabaseUnavailable:
            raise  # the job may have been accepted all the same
        except BaseException:
            self.uploads.delete(name)
            raise

    def submit(self, request: JobRequest, same: Idempotency | None = None) -> Job:
        """A new job, which begins at once if nothing is before it. See `JobStore.submit`."""
        job = self.store.submit(request, same)
        self.runner.look()
        return job

    def refuse(self, request: JobRequest, error: ServiceError, same: Idempotency) -> Job:
        """A job that has failed already, so that its end is announced as that of any other."""
        return self.runner.refuse(request, error, same)

    def find(self, job_id: str, client: str) -> Job:
        """Raises UnknownJob."""
        return self.store.find(job_id, client)

    def transcript(self, job_id: str) -> Transcript | None:
        return self.store.transcript(job_id)

    def cancel(self, job_id: str, client: str) -> Job:
        """Cancel a job that has not ended. Raises UnknownJob."""
        job = self.store.request_cancel(job_id, client, self.runner.announce)
        self.keeper.cancel(job_id)
        if job.state is JobState.CANCELLED:
            self.retention.discard_upload(job)
        return job

    def retry(self, job_id: str, client: str, details: Mapping[str, JsonValue] = {}) -> Job:
        """Try a failed or cancelled job again, see `JobStore.retry`. Raises UnknownJob."""
        job = self.store.retry(job_id, client, details)
        self.runner.look()
        return job

    def delete(self, job_id: str, client: str) -> None:
        """Remove an ended job. Raises UnknownJob, NotEnded."""
        job = self.store.find(job_id, client)
        if not job.state.ended:
            raise NotEnded
        self.retention.remove(job)
