"""IdempotencyKeys: a request that is sent again gets the job of the first time."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from app.domain.errors import (
    IdempotencyMismatch,
    StageFailed,
    StillAccepting,
    UnsupportedOption,
)
from app.jobs.idempotency import Idempotency
from app.jobs.job import Job, JobState
from tests.support.job_tables import Process, request

SAME = Idempotency("key", "0" * 64)


def accept(process: Process, same: Idempotency = SAME, client: str = "a") -> Job:
    earlier = process.store.keys.reserve(client, same.key)
    if earlier is None:
        return process.submit(client, same)
    process.store.keys.check_payload(client, same)
    return earlier


def test_a_key_stands_for_one_job(process: Process) -> None:
    job = accept(process)
    assert accept(process) == job
    with pytest.raises(IdempotencyMismatch):
        accept(process, Idempotency("key", "1" * 64))
    assert accept(process, client="b").id != job.id
    assert accept(process, Idempotency("other", "0" * 64)).id != job.id
    process.store.keys.release("a", "key")  # no effect on a key that is used
    assert accept(process) == job
    process.runs.cancelled(process.begin(job))
    assert accept(process).state is JobState.CANCELLED
    process.store.delete(job.id)
    assert accept(process).id != job.id


def test_a_key_is_taken_while_its_request_is_accepted(process: Process) -> None:
    assert process.store.keys.reserve("a", "key") is None
    with pytest.raises(StillAccepting):
        process.store.keys.reserve("a", "key")
    process.store.keys.release("a", "key")
    accept(process)


def test_a_refused_request_that_is_sent_again_finds_its_job(process: Process) -> None:
    def send() -> tuple[Job, bool]:
        return process.store.keys.once(
            "a", "key", lambda: process.runs.refuse(request(), StageFailed("broken"), SAME)
        )

    job, is_new = send()
    assert is_new
    assert job.state is JobState.FAILED
    assert send() == (job, False)


def test_a_key_is_free_again_if_its_request_fails(process: Process) -> None:
    def fail() -> Job:
        raise StageFailed("full")

    with pytest.raises(StageFailed):
        process.store.keys.once("a", "key", fail)
    assert process.store.keys.once("a", "key", lambda: process.submit(same=SAME))[1]


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_keys_have_a_length(process: Process, key: str) -> None:
    with pytest.raises(UnsupportedOption):
        process.store.keys.reserve("a", key)


def test_of_many_equal_requests_at_once_one_is_accepted(process: Process) -> None:
    begin = threading.Barrier(12)
    found: list[Any] = []

    def ask() -> None:
        begin.wait()
        try:
            found.append(accept(process).id)
        except StillAccepting:
            found.append(None)
        except Exception as error:  # noqa: BLE001 - told by the test
            found.append(error)

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 12
    assert {name for name in found if name is not None} == {accept(process).id}
    assert len(process.line.entries) == 1


def test_keys_of_a_dead_process_are_free(process: Process, tmp_path: Path) -> None:
    other = Process(process.database, tmp_path)
    assert other.store.keys.reserve("a", "key") is None
    assert process.executors.living() == {process.executors.id, other.executors.id}
    other.die()
    assert process.executors.living() == {process.executors.id}
    job = accept(process)
    with pytest.raises(StillAccepting):  # it was only frozen: its request may not count, too
        other.submit("a", SAME)
    other.store.keys.release("a", "key")
    assert accept(process) == job
    assert process.store.counts()[JobState.QUEUED] == 1


def test_a_key_that_could_not_be_given_back_is_free_again(process: Process) -> None:
    """Its request failed while the database was gone, so the reservation is still there."""
    assert process.store.keys.reserve("a", "key") is None
    with pytest.raises(StillAccepting):
        process.store.keys.reserve("a", "key")
    process.store.keys.let_go("a", "key")
    assert process.store.keys.reserve("a", "key") is None
    process.store.keys.release("a", "key")


def test_a_key_that_could_not_be_given_back_is_free_for_other_processes_later(
    process: Process, tmp_path: Path
) -> None:
    """Their answer would be 409 for as long as this process lives."""
    assert process.store.keys.reserve("a", "key") is None
    process.store.keys.give_up("a", "key")
    other = Process(process.database, tmp_path)
    with pytest.raises(StillAccepting):
        other.store.keys.reserve("a", "key")
    process.store.keys.give_back()
    assert other.store.keys.reserve("a", "key") is None
    process.store.keys.give_back()
    with pytest.raises(StillAccepting):  # it is not ours any more
        process.store.keys.reserve("a", "key")


def test_a_key_that_is_wanted_again_is_not_given_back(process: Process) -> None:
    assert process.store.keys.reserve("a", SAME.key) is None
    process.store.keys.give_up("a", SAME.key)
    assert process.store.keys.reserve("a", SAME.key) is None
    process.store.keys.give_back()
    job = process.submit("a", same=SAME)
    assert process.store.keys.reserve("a", SAME.key) == job
