"""Runs: only the last one's writes count, and which of them are attempts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from app.domain.errors import StageFailed
from app.jobs.job import Job, JobState, JobStep, Priority
from app.jobs.rescue import SETTLED_S, Interrupted, Rescue
from app.jobs.run import Progress, Run, Superseded
from app.jobs.runs import Runs
from app.jobs.tables import executors
from tests.support.job_tables import TRANSCRIPT, Process

BROKEN = StageFailed("broken")
WRITES: dict[str, Callable[[Runs, Run], Any]] = {
    "keep": lambda runs, run: runs.keep(run, TRANSCRIPT),
    "succeed": lambda runs, run: runs.succeed(run, TRANSCRIPT, {}, 1.0),
    "fail": lambda runs, run: runs.fail(run, BROKEN),
    "cancelled": lambda runs, run: runs.cancelled(run),
    "again": lambda runs, run: runs.again(run, 1.0, BROKEN),
}


@pytest.fixture
def other(process: Process, tmp_path: Path) -> Process:
    return Process(process.database, tmp_path)


def state(process: Process, job: Job) -> Job:
    return process.store.find(job.id, "a")


def silent(process: Process, other: Process) -> None:
    """A process is frozen, and others find out."""
    with process.database.begin() as connection:
        row = executors.c.id == process.executors.id
        connection.execute(sa.update(executors).where(row).values(seen_at=0.0))
    assert process.executors.id not in other.executors.living()


def refused(process: Process, run: Run) -> None:
    assert process.runs.tell([(run, Progress(JobStep.STORE, 99.0))]) == {}
    for write in WRITES.values():
        with pytest.raises(Superseded):
            write(process.runs, run)


def test_a_run_from_its_begin_to_its_end(process: Process) -> None:
    run = process.begin(process.submit())
    assert (run.job.state, run.job.attempts, run.job.step) == (JobState.RUNNING, 1, JobStep.FETCH)
    told = process.runs.tell([(run, Progress(JobStep.ALIGN, 71.23, 2.0))])
    assert told == {run.id: False}
    seen = state(process, run.job)
    assert (seen.step, seen.progress, seen.audio_s) == (JobStep.ALIGN, 71.2, 2.0)
    process.runs.keep(run, TRANSCRIPT)
    process.runs.keep(run, TRANSCRIPT)
    assert process.store.transcript(run.job.id) == TRANSCRIPT
    done = process.runs.succeed(run, TRANSCRIPT, {"key": "x"}, 0.5)
    assert done == state(process, run.job)
    assert (done.state, done.progress, done.step) == (JobState.DONE, 100.0, None)
    assert (done.language, done.model, done.audio_s) == ("en", "demo", 2.0)
    assert done.published == {"key": "x"}
    # the same again: the answer to the first commit may have been lost
    assert process.runs.succeed(run, TRANSCRIPT, {}, 9.0) == done
    assert process.ended == [done]
    with pytest.raises(Superseded):
        process.runs.fail(run, BROKEN)


def test_a_job_that_runs_is_not_begun_again(process: Process, other: Process) -> None:
    run = process.begin(process.submit())
    assert not other.runs.any_to_begin()
    assert process.runs.begin(run.job.id) is None
    assert other.runs.begin(run.job.id) is None
    assert process.runs.interrupted() == other.runs.interrupted() == []
    process.runs.succeed(run, TRANSCRIPT, {}, 1.0)
    assert other.runs.begin(run.job.id) is None
    assert process.runs.begin("nonsense") is None


def test_the_next_in_turn_is_begun(process: Process, other: Process) -> None:
    low = process.submit(priority=Priority.LOW)
    first, second, put_off = (process.submit() for _ in range(3))
    process.runs.again(process.begin(put_off), 60.0, BROKEN)
    begun = [one.runs.begin_next() for one in (process, other, process, other)]
    assert [run and run.job.id for run in begun] == [first.id, second.id, low.id, None]
    assert process.runs.begin(first.id) is None  # when its turn comes in the queue
    process.now += 61
    run = process.runs.begin_next()
    assert run is not None
    assert (run.job.id, run.job.attempts) == (put_off.id, 2)


def test_late_writes_of_a_frozen_process_are_refused(process: Process, other: Process) -> None:
    run = process.begin(process.submit())
    silent(process, other)
    later = other.begin(run.job)
    assert later.job.attempts == 2
    refused(process, run)
    other.runs.succeed(later, TRANSCRIPT, {}, 1.0)
    refused(process, run)
    assert [job.state for job in process.ended + other.ended] == [JobState.DONE]


def test_a_frozen_process_wakes_up_to_a_job_that_is_gone(process: Process, other: Process) -> None:
    cancelled, deleted = (process.begin(process.submit()) for _ in range(2))
    silent(process, other)
    for run in (cancelled, deleted):
        other.runs.cancelled(other.begin(run.job))
    other.store.delete(deleted.job.id)
    refused(process, cancelled)
    refused(process, deleted)
    assert process.store.transcript(deleted.job.id) is None


def test_a_frozen_process_that_wakes_up_in_time_goes_on(process: Process, other: Process) -> None:
    run = process.begin(process.submit())
    silent(process, other)
    process.executors.beat()
    assert other.runs.begin(run.job.id) is None
    process.runs.succeed(run, TRANSCRIPT, {}, 1.0)


def test_a_dead_process_is_noticed_by_its_lock(process: Process, other: Process) -> None:
    run = process.begin(process.submit())
    process.die()
    assert other.executors.living() == {other.executors.id}
    assert other.begin(run.job).job.attempts == 2
    other.executors.close()
    other.executors.leave()
    assert list(other.executors._folder.iterdir()) == []


def test_what_counts_as_an_attempt(process: Process) -> None:
    job = process.submit()
    process.runs.again(process.begin(job), 2.0, counts=False)
    assert (state(process, job).attempts, state(process, job).error) == (0, "")
    process.runs.again(process.begin(job), 15.0, BROKEN)
    waiting = state(process, job)
    assert (waiting.attempts, waiting.error, waiting.error_code) == (1, "broken", BROKEN.code)
    assert waiting.retry_at == pytest.approx(process.now + 15, abs=0.1)
    assert process.line.entries[-1][2] == 15.0
    run = process.begin(job)
    assert (run.job.attempts, run.job.retry_at) == (2, None)
    failed = process.runs.fail(run, BROKEN, counts=False)
    assert (failed.state, failed.attempts) == (JobState.FAILED, 1)


def test_the_tables_tell_of_interrupted_jobs(process: Process, other: Process) -> None:
    """Whatever the queue knows of them: its word may be lost with a further process."""
    first, second, third = (process.submit() for _ in range(3))
    for job in (second, first):
        process.begin(job)
    other.runs.succeed(other.begin(third), TRANSCRIPT, {}, 1.0)
    assert not other.runs.any_to_begin()
    process.die()
    process.line.entries.clear()
    assert other.runs.any_to_begin()
    assert other.runs.interrupted() == [Interrupted(first.id, 1), Interrupted(second.id, 1)]
    assert other.runs.begin_next() is None
    for job in (first, second):
        assert other.begin(job).job.attempts == 2
    assert not other.runs.any_to_begin()


def test_what_its_own_process_has_lost_is_begun_again(process: Process, other: Process) -> None:
    rescue = Rescue(process.database, process.executors, lambda: process.now + SETTLED_S + 1)
    stranded, running, elsewhere, _ = (process.submit() for _ in range(4))
    runs = [process.begin(stranded), process.begin(running), other.begin(elsewhere)]
    assert rescue.let_go({run.id for run in runs}) == []
    assert rescue.let_go({runs[1].id}) == [stranded.id]
    refused(process, runs[0])
    expected = [Interrupted(stranded.id, 1)]
    assert process.runs.interrupted() == other.runs.interrupted() == expected
    assert process.begin(stranded).job.attempts == 2
    assert process.runs.interrupted() == []


def test_an_attempt_that_is_put_off_begins_no_sooner(process: Process) -> None:
    job = process.submit()
    process.runs.again(process.begin(job), 60.0, BROKEN)
    assert process.runs.begin(job.id) is None
    assert not process.runs.any_to_begin()
    assert state(process, job).attempts == 1
    process.now += 61
    assert process.runs.any_to_begin()
