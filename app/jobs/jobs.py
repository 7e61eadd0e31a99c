"""Jobs: the subsystem as its front doors see it. Its methods block: not for the event loop."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.domain.errors import NotEnded, ServiceError
from app.domain.transcript import Transcript
from app.jobs.deliveries import (
    DELIVERIES_QUEUE,
    DELIVERY_POLL_S,
    DELIVERY_THREADS,
    Deliveries,
)
from app.jobs.executors import Executors
from app.jobs.history import History
from app.jobs.job import Job, JobRequest, Source, Upload
from app.jobs.keeper import Keeper
from app.jobs.queue import JobQueue, Worker
from app.jobs.retention import Retention
from app.jobs.runner import Runner
from app.jobs.store import JOBS_QUEUE, Idempotency, JobStore
from app.storage.objects import ObjectStore


@dataclass(frozen=True, slots=True)
class Jobs:
    store: JobStore
    history: History
    queue: JobQueue
    executors: Executors
    keeper: Keeper
    runner: Runner
    retention: Retention
    uploads: ObjectStore
    deliveries: Deliveries
    num_workers: int

    def start(self) -> None:
        """Begin to work on jobs, also on those that an earlier process left."""
        self.executors.beat()
        self.queue.start(
            {
                JOBS_QUEUE: Worker(self.runner.run, self.num_workers),
                DELIVERIES_QUEUE: Worker(self.deliveries.handle, DELIVERY_THREADS, DELIVERY_POLL_S),
            }
        )
        self.keeper.start()

    def close(self) -> None:
        """Stop. Runs that have not handed over their jobs lose them to other processes."""
        self.runner.close()
        self.deliveries.close()
        self.keeper.close()
        self.queue.close()
        self.executors.leave()
        self.executors.close()
        self.store.database.close()

    @contextmanager
    def keeping(self, path: Path) -> Iterator[Source]:
        """Keep a file as the upload of a job that the block submits; not if the block fails."""
        name = secrets.token_hex(16)
        self.uploads.put(path, name, lambda: None)
        try:
            yield Upload(name=name)
        except BaseException:
            self.uploads.delete(name)
            raise

    def submit(self, request: JobRequest, same: Idempotency | None = None) -> Job:
        """A new job. See `JobStore.submit`."""
        return self.store.submit(request, same)

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
        job = self.store.request_cancel(job_id, client)
        self.keeper.cancel(job_id)
        return job

    def retry(self, job_id: str, client: str) -> Job:
        """Try a failed or cancelled job again. Raises UnknownJob."""
        return self.store.retry(job_id, client)

    def delete(self, job_id: str, client: str) -> None:
        """Remove an ended job. Raises UnknownJob, NotEnded."""
        job = self.store.find(job_id, client)
        if not job.state.ended:
            raise NotEnded
        self.retention.remove(job)
