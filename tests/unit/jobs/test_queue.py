"""JobQueue: items reach a process, once, in their order, and those of dead processes another."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.domain.errors import ShuttingDown
from app.jobs.database import Database
from app.jobs.queue import JobQueue, Worker
from tests.support.job_tables import all_values
from tests.support.waiting import eventually

PICKLE = b"\x80\x04"
PICKLE_AS_TEXT = "gAS"  # base64


@contextmanager
def working(database: Database, worker: Worker, executor: str = "one") -> Iterator[JobQueue]:
    queue = JobQueue(database, executor)
    queue.start({"jobs": worker})
    try:
        yield queue
    finally:
        queue.close()


def add(queue: JobQueue, *items: str, priority: int = 1, delay_s: float = 0.0) -> None:
    with queue._database.begin() as connection:
        for item in items:
            queue.add(connection, "jobs", item, priority, delay_s)


def known(queue: JobQueue, items: list[str]) -> set[str]:
    """Those of the items that wait, or that a process works on."""
    found = queue._opened.list_workflows(status=["PENDING", "ENQUEUED", "DELAYED"])
    return {status.workflow_id.rpartition(".")[0] for status in found} & set(items)


@pytest.fixture
def database(url: str, tmp_path: Path) -> Iterator[Database]:
    """Of its own: the queue's tables are in it."""
    database = Database(url, tmp_path)
    yield database
    database.close()


def test_items_reach_their_handler(database: Database) -> None:
    seen: list[str] = []
    begun, go_on = threading.Event(), threading.Event()

    def handle(item: str) -> None:
        seen.append(item)
        if item == "first":
            begun.set()
            go_on.wait(60)
        if item == "broken":
            raise ValueError(object())

    with working(database, Worker(handle, 1)) as queue:
        add(queue, "first")
        begun.wait(60)
        add(queue, "later", priority=9)
        add(queue, "broken", "sooner", priority=2)
        add(queue, "put off", priority=5, delay_s=0.5)
        with database.begin() as connection:
            queue.add(connection, "jobs", "rolled back")
            connection.rollback()
        names = ["first", "later", "put off", "rolled back", "unknown"]
        assert known(queue, names) == {"first", "later", "put off"}
        queue.forget(["later", "unknown"])
        assert known(queue, names) == {"first", "put off"}
        go_on.set()
        eventually(lambda: len(seen) == 4 and known(queue, names) == set())
        assert seen[:3] == ["first", "broken", "sooner"]
        assert seen[3] == "put off"
        values = all_values(database)
        assert any(place.startswith("workflow_status") for place, _ in values)
        for place, value in values:
            text = value if isinstance(value, str) else value.decode("latin-1")
            assert PICKLE_AS_TEXT not in text, place
            assert PICKLE.decode("latin-1") not in text, place
    with pytest.raises(ShuttingDown):
        add(queue, "too late")


def test_items_of_a_dead_process_are_taken_over(database: Database) -> None:
    begun, seen = threading.Event(), []
    never = threading.Event()

    def hang(item: str) -> None:
        begun.set()
        never.wait(60)

    with working(database, Worker(hang, 1), "dead") as queue:
        add(queue, "running")
        assert begun.wait(60)
        add(queue, "waiting")
    with working(database, Worker(seen.append, 1), "alive") as queue:
        eventually(lambda: seen == ["waiting"])
        assert queue.take_over(lambda: {"alive", "dead"}) == 0
        assert queue.take_over(lambda: {"alive"}) == 1
        eventually(lambda: seen == ["waiting", "running"])
        eventually(lambda: queue.take_over(lambda: {"alive"}) == 0)
    never.set()


def test_a_queue_that_rests_keeps_what_is_added(database: Database) -> None:
    """An item that is worked on meanwhile comes again, as after a sudden end."""
    begun, go_on, seen = threading.Event(), threading.Event(), []

    def handle(item: str) -> None:
        seen.append(item)
        if item == "running":
            begun.set()
            go_on.wait(60)

    with working(database, Worker(handle, 2)) as queue:
        add(queue, "running")
        assert begun.wait(60)
        queue.rest()
        queue.rest()
        queue.was_called()
        add(queue, "added", "later", delay_s=0.1)
        assert queue.was_called()
        assert not queue.works
        go_on.set()
        assert seen == ["running"]
        for _ in range(2):
            queue.work()
            eventually(lambda: sorted(set(seen)) == ["added", "later", "running"])
            eventually(lambda: queue.is_empty() and known(queue, ["running"]) == set())
            queue.rest()
    assert queue.works is False
