"""JobStore: whose turn it is, limits, cancelling and trying again."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from app.domain.errors import (
    Overloaded,
    StageFailed,
    UnknownJob,
)
from app.jobs.database import Database
from app.jobs.job import Job, JobState, JobStep, Priority, S3Object, Upload
from app.jobs.queue import MAX_PRIORITY
from app.jobs.rows import CLASSES, RANKS, queue_priority
from app.jobs.run import Progress
from tests.support.job_tables import TRANSCRIPT, Process

# -- turns ---------------------------------------------------------------------------------------


def clients_in_turn(process: Process, count: int) -> list[str]:
    found = []
    for _ in range(count):
        run = process.runs.begin(process.line.first())
        assert run is not None
        found.append(run.job.request.client)
    return found


def test_hundreds_of_jobs_do_not_hold_up_the_first_of_another(tmp_path: Path) -> None:
    process = Process(Database("", tmp_path), tmp_path)
    for _ in range(200):
        process.submit("big")
    assert clients_in_turn(process, 3) == ["big"] * 3
    for _ in range(3):
        process.submit("small")
    assert sorted(clients_in_turn(process, 6)) == ["big"] * 3 + ["small"] * 3
    process.submit("late")
    assert "late" in clients_in_turn(process, 2)


def test_an_account_is_in_turn_as_one_client(process: Process) -> None:
    for name in ("a", "b", "a", "b"):
        process.submit(name, account="both")
    process.submit("other")
    assert "other" in clients_in_turn(process, 2)


def test_a_higher_priority_goes_first(process: Process) -> None:
    process.submit("low", priority=Priority.LOW)
    for _ in range(3):
        process.submit("normal")
    process.submit("high", priority=Priority.HIGH)
    assert clients_in_turn(process, 5) == ["high", "normal", "normal", "normal", "low"]


def test_no_number_of_jobs_mixes_up_the_priorities() -> None:
    first, last = 1, 10**12
    bounds = [(queue_priority(c, first), queue_priority(c, last)) for c in CLASSES.values()]
    assert bounds == sorted(bounds)
    for (_, before), (after, _) in pairwise(bounds):
        assert before < after
    assert bounds[0][0] >= 1
    assert bounds[-1][1] <= MAX_PRIORITY
    assert len(CLASSES) * RANKS <= MAX_PRIORITY


def test_too_many_waiting_jobs_are_refused(database: Database, tmp_path: Path) -> None:
    process = Process(database, tmp_path, max_jobs=2)
    first = process.submit()
    process.submit()
    with pytest.raises(Overloaded) as caught:
        process.submit()
    assert caught.value.retry_after_s
    process.begin(first)
    process.submit("next")


# -- other things --------------------------------------------------------------------------------


def test_the_jobs_of_others_are_unknown(process: Process) -> None:
    job = process.submit("a")
    for ask in (process.store.find, process.store.request_cancel, process.store.retry):
        with pytest.raises(UnknownJob):
            ask(job.id, "b")
        with pytest.raises(UnknownJob):
            ask("nonsense", "a")
    assert process.store.find(job.id, "a").state is JobState.QUEUED


def test_cancelled_at_once_or_as_soon_as_possible(process: Process) -> None:
    waiting, running = process.submit(), process.submit()
    run = process.begin(running)
    assert process.store.request_cancel(waiting.id, "a").state is JobState.CANCELLED
    assert process.runs.begin(waiting.id) is None
    assert process.store.request_cancel(running.id, "a").state is JobState.RUNNING
    assert process.runs.tell([(run, Progress(JobStep.DECODE, 1.0))]) == {run.id: True}
    # an attempt that failed meanwhile is not repeated
    process.runs.again(run, 5.0, StageFailed("broken"))
    assert process.store.find(running.id, "a").state is JobState.CANCELLED
    assert process.ended[-1].id == running.id
    assert process.store.request_cancel(running.id, "a").state is JobState.CANCELLED


def test_tried_again_with_all_attempts(process: Process) -> None:
    source = S3Object(bucket="b", key="k")
    failed, cancelled = process.submit(source=source), process.submit(source=source)
    gone = process.submit()
    process.runs.fail(process.begin(failed), StageFailed("broken"))
    process.store.request_cancel(cancelled.id, "a")
    process.store.request_cancel(gone.id, "a")
    for job in (failed, cancelled):
        again = process.store.retry(job.id, "a")
        assert (again.state, again.attempts, again.error) == (JobState.QUEUED, 0, "")
        assert process.begin(job).job.attempts == 1
    # its upload was deleted when it was cancelled
    assert process.store.retry(gone.id, "a").state is JobState.CANCELLED


def test_the_time_left_is_not_invented(process: Process) -> None:
    job = process.submit()
    assert job.left_s(process.clock()) is None
    run = process.begin(job)
    started = run.job.started_at
    assert started is not None

    def left_s(progress: float) -> float | None:
        process.runs.tell([(run, Progress(JobStep.RECOGNIZE, progress))])
        return process.store.find(job.id, "a").left_s(started + 30.0)

    assert left_s(0.0) is None
    assert left_s(14.9) is None
    assert left_s(50.0) == pytest.approx(30.0)
    assert left_s(75.0) == pytest.approx(10.0)
    process.runs.cancelled(run)
    assert process.store.find(job.id, "a").left_s(started + 30.0) is None


def test_only_ended_jobs_are_removed(process: Process) -> None:
    waiting, running = process.submit(), process.submit()
    run = process.begin(running)
    assert not process.store.delete(waiting.id)
    assert not process.store.delete(running.id)
    assert not process.store.withdraw(running.id)
    process.runs.succeed(run, TRANSCRIPT, {}, 1.0)
    assert process.store.delete(running.id)
    assert process.store.withdraw(waiting.id)
    assert process.store.counts()[JobState.QUEUED] == 0


def test_whoever_waits_for_a_job_hears_that_it_was_cancelled(process: Process) -> None:
    told: list[Job] = []
    waiting, running = process.submit(), process.submit()
    process.begin(running)
    for job in (waiting, running):
        process.store.request_cancel(job.id, "a", lambda _, ended: told.append(ended))
    assert [(job.id, job.state) for job in told] == [(waiting.id, JobState.CANCELLED)]


def test_uploads_in_use_are_found_whatever_clients_wrote(process: Process) -> None:
    job = process.submit(metadata={"nul": "\x00"})
    assert isinstance(job.request.source, Upload)
    name = job.request.source.name
    assert process.store.uploads_in_use([name, "other"]) == {name}
