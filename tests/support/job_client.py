"""Hands jobs to a running service through its database, as another replica would."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dbos import DBOSClient

from app.jobs.database import Database
from app.jobs.job import Job, JobOptions, JobRequest, Source, WebhookTarget
from app.jobs.queue import APPLICATION, JobQueue, JsonSerializer
from app.jobs.store import JobStore


class JobClient:
    """Runs nothing itself."""

    def __init__(self, database: Database) -> None:
        queue = JobQueue(database, "tests")
        self._queue = queue._client = DBOSClient(
            system_database_engine=database.engine,
            serializer=JsonSerializer(),
            application_name=APPLICATION,
        )
        self.store = JobStore(database, queue, "tests", 1000)

    def submit(self, source: Source, webhook: str = "", client: str = "", **more: Any) -> Job:
        request = JobRequest(
            client=client,
            source=source,
            options=JobOptions(model="demo"),
            webhook=WebhookTarget(url=webhook) if webhook else None,
            **more,
        )
        return self.store.submit(request)

    def close(self) -> None:
        self._queue.destroy()


@contextmanager
def job_client(data_dir: Path) -> Iterator[JobClient]:
    """For the service with this data directory, which has made its tables."""
    database = Database("", data_dir)
    client = JobClient(database)
    try:
        yield client
    finally:
        client.close()
        database.close()
