"""Counts of jobs for a scrape, whatever the database does."""

from __future__ import annotations

import threading

from app.domain.errors import DatabaseUnavailable
from app.jobs.figures import Figures
from app.jobs.job import JobState
from tests.support.waiting import eventually


def test_a_scrape_does_not_wait_for_a_database_that_hangs() -> None:
    back, asked = threading.Event(), []

    def count() -> dict[JobState, int]:
        asked.append(1)
        back.wait(60)
        return {JobState.QUEUED: 3}

    figures = Figures(count, patience_s=0.01)
    assert [figures() for _ in range(3)] == [{}, {}, {}]
    assert len(asked) == 1, "one question at a time"
    back.set()
    eventually(lambda: figures() == {"queued": 3})


def test_a_database_that_is_gone_is_no_failure() -> None:
    def count() -> dict[JobState, int]:
        raise DatabaseUnavailable

    assert Figures(count)() == {}
