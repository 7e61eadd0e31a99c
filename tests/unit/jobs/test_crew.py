"""Crew: so many jobs at a time, none forgotten, and no place lost."""

from __future__ import annotations

import threading

import pytest

from app.jobs.crew import Crew
from tests.support.waiting import PATIENCE_S, eventually


class Bench:
    """Jobs that begin in turn and end when they are told to."""

    def __init__(self, num_places: int) -> None:
        self.waiting: list[threading.Event] = []
        self.running: list[threading.Event] = []
        self.most = 0
        self.lock = threading.Lock()
        self.crew = Crew(num_places, self.work_on_next)

    def add(self, number: int) -> None:
        with self.lock:
            self.waiting += [threading.Event() for _ in range(number)]

    def work_on_next(self) -> bool:
        with self.lock:
            if not self.waiting:
                return False
            job = self.waiting.pop(0)
            self.running.append(job)
            self.most = max(self.most, len(self.running))
        self.crew.call()
        job.wait(PATIENCE_S)
        with self.lock:
            self.running.remove(job)
        return True

    def end_one(self) -> None:
        self.running[0].set()


def test_one_call_fills_all_places_and_all_jobs_get_theirs() -> None:
    bench = Bench(3)
    bench.add(7)
    bench.crew.call()
    for left in (4, 3, 2, 1, 0):
        eventually(lambda left=left: (len(bench.running), len(bench.waiting)) == (3, left))
        bench.end_one()
    for job in list(bench.running):
        job.set()
    eventually(lambda: bench.crew.is_idle)
    assert bench.most == 3


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_no_place_is_lost_with_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither with one that cannot be started, nor with one that dies."""
    bench = Bench(1)
    bench.add(1)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", cannot_start)
        bench.crew.call()
    assert bench.crew.is_idle
    bench.crew.call()
    eventually(lambda: bench.running)
    bench.end_one()
    eventually(lambda: bench.crew.is_idle)

    begun: list[None] = []

    def dies() -> bool:
        begun.append(None)
        raise SystemExit

    crew = Crew(1, dies)
    for number in (1, 2):
        crew.call()
        eventually(lambda number=number: len(begun) == number and crew.is_idle)


def cannot_start(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_a_call_is_heard_by_who_is_about_to_stop() -> None:
    asked, go_on, calls = threading.Event(), threading.Event(), []

    def look() -> bool:
        calls.append(None)
        asked.set()
        go_on.wait(PATIENCE_S)
        return False

    crew = Crew(1, look)
    crew.call()
    assert asked.wait(PATIENCE_S)
    crew.call()
    go_on.set()
    eventually(lambda: crew.is_idle)
    assert len(calls) == 2


def test_nothing_begins_after_its_end() -> None:
    bench = Bench(1)
    bench.add(1)
    bench.crew.close()
    bench.crew.call()
    assert bench.crew.is_idle
    assert bench.running == []
