"""Lookout: the queue rests while there is nothing to do, and works again for whatever comes due."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from app.domain.errors import DatabaseUnavailable
from app.jobs import lookout as module
from app.jobs.crew import Crew
from app.jobs.database import Database
from app.jobs.job import JobState, Url
from app.jobs.lookout import Lookout
from app.jobs.queue import JobQueue, Worker
from app.jobs.store import JOBS_QUEUE
from tests.support.job_client import job_client
from tests.support.job_tables import Process
from tests.support.waiting import eventually


@dataclass
class Watched:
    """A process of which the queue rests whenever it can. `looks`: how often its crew was called,
    `items`: what the queue gave it.
    """

    process: Process
    queue: JobQueue
    looks: list[None] = field(default_factory=list)
    items: list[str] = field(default_factory=list)

    def look(self) -> bool:
        self.looks.append(None)
        return False


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    monkeypatch.setattr(module, "QUIET_S", 0.0)
    monkeypatch.setattr(module, "LOOK_S", 0.05)
    database = Database("", tmp_path)
    process = Process(database, tmp_path)
    queue = JobQueue(database, process.executors.id)
    watched = Watched(process, queue)
    queue.start({JOBS_QUEUE: Worker(watched.items.append, 1)})
    lookout = Lookout(database, queue, process.runs, Crew(1, watched.look))
    lookout.start()
    yield watched
    lookout.close()
    queue.close()
    queue.work()
    assert not queue.works  # whoever comes late does not start it again
    database.close()


def test_the_queue_rests_until_another_process_adds_a_job(watched: Watched, tmp_path: Path) -> None:
    with job_client(tmp_path) as other:
        for number in (1, 2):
            eventually(lambda: not watched.queue.works)
            watched.looks.clear()
            job = other.submit(Url(url="https://example.com"))
            eventually(
                lambda number=number: (
                    watched.looks and watched.queue.works and len(watched.items) == number
                )
            )
            assert other.store.request_cancel(job.id, "").state is JobState.CANCELLED


def test_a_resting_process_sees_the_job_of_a_dead_one(watched: Watched, tmp_path: Path) -> None:
    """The queue knows nothing of it: what it knew has died with another process."""
    dead = Process(watched.process.database, tmp_path)
    job = dead.submit()
    dead.begin(job)
    eventually(lambda: not watched.queue.works)
    watched.looks.clear()
    dead.die()
    eventually(lambda: watched.looks and watched.queue.works)
    assert [found.id for found in watched.process.runs.interrupted()] == [job.id]


def test_a_look_that_fails_is_not_the_answer_to_a_call(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    eventually(lambda: not watched.queue.works)
    failed: list[None] = []

    def fails() -> bool:
        failed.append(None)
        raise DatabaseUnavailable

    with monkeypatch.context() as patched:
        patched.setattr(watched.process.runs, "any_to_begin", fails)
        eventually(lambda: failed)
        watched.queue.wake()
        before = len(failed)
        eventually(lambda: len(failed) > before + 1)
        assert not watched.queue.works
    eventually(lambda: watched.queue.works)
