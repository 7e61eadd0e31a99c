"""Runner: which job it begins next."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from app.jobs.run import Run
from app.jobs.runner import Runner, RunnerOptions
from tests.support.job_tables import TRANSCRIPT, Process
from tests.support.waiting import PATIENCE_S, eventually

NOTHING: Any = None


class Scripted(Runner):
    """Its attempts succeed when they are told to."""

    def __init__(self, process: Process, num_workers: int) -> None:
        service: Any = SimpleNamespace(admission=SimpleNamespace(closed=False))
        options = RunnerOptions(60.0, max_attempts=3, retry_s=1.0, num_workers=num_workers)
        super().__init__(
            service, process.store, process.runs, NOTHING, NOTHING, NOTHING, options
        )  # fmt: skip
        self.begun: list[str] = []
        self.running: dict[str, threading.Event] = {}

    def _attempt(self, run: Run) -> None:
        told = threading.Event()
        self.begun.append(run.job.id)
        self.running[run.job.id] = told
        assert told.wait(PATIENCE_S)
        del self.running[run.job.id]
        self._runs.succeed(run, TRANSCRIPT, {}, 1.0)


def interrupt(process: Process, folder: Path, job_id: str, num_runs: int) -> None:
    """Have processes die while they work on a job."""
    for _ in range(num_runs):
        dead = Process(process.database, folder)
        assert dead.runs.begin(job_id)
        dead.die()


def test_interrupted_jobs_come_first(process: Process, tmp_path: Path) -> None:
    waiting, interrupted = (process.submit().id for _ in range(2))
    interrupt(process, tmp_path, interrupted, 1)
    runner = Scripted(process, 1)
    runner.look()
    for number, job_id in enumerate((interrupted, waiting), 1):
        eventually(lambda job_id=job_id: job_id in runner.running)
        assert len(runner.begun) == number
        runner.running[job_id].set()
    eventually(lambda: runner.crew.is_idle)
    assert not process.runs.any_to_begin()


def test_last_attempts_are_made_one_at_a_time(process: Process, tmp_path: Path) -> None:
    """And keep no place from others meanwhile."""
    first, second, waiting = (process.submit().id for _ in range(3))
    for job_id in (first, second):
        interrupt(process, tmp_path, job_id, 2)
    runner = Scripted(process, 3)
    runner.look()
    eventually(lambda: set(runner.running) == {first, waiting})
    runner.running[waiting].set()
    eventually(lambda: set(runner.running) == {first})
    runner.look()
    runner.running[first].set()
    eventually(lambda: set(runner.running) == {second})
    runner.running[second].set()
    eventually(lambda: runner.crew.is_idle)
    assert runner.begun[0] == first
    assert len(runner.begun) == 3
