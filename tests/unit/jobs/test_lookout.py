"""Lookout: the queue rests while there is nothing to do, and works again for whatever comes due."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.jobs import lookout as module
from app.jobs.crew import Crew
from app.jobs.database import Database
from app.jobs.job import JobState, Url
from app.jobs.lookout import Lookout
from app.jobs.queue import JobQueue, Worker
from app.jobs.store import JOBS_QUEUE
from tests.support.job_client import job_client
from tests.support.waiting import eventually


def test_the_queue_rests_until_another_process_adds_a_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUIET_S", 0.0)
    monkeypatch.setattr(module, "LOOK_S", 0.05)
    database = Database("", tmp_path)
    looks: list[None] = []
    items: list[str] = []

    def look() -> bool:
        looks.append(None)
        return False

    queue = JobQueue(database, "one")
    queue.start({JOBS_QUEUE: Worker(items.append, 1)})
    lookout = Lookout(database, queue, Crew(1, look))
    lookout.start()
    try:
        with job_client(tmp_path) as other:
            for number in (1, 2):
                eventually(lambda: not queue.works)
                looks.clear()
                job = other.submit(Url(url="https://example.com"))
                eventually(lambda number=number: looks and queue.works and len(items) == number)
                assert other.store.request_cancel(job.id, "").state is JobState.CANCELLED
    finally:
        lookout.close()
        queue.close()
        database.close()
