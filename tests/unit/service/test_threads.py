"""Threads: a job that was refused never runs."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from app.domain.errors import Overloaded, ShuttingDown
from app.service.threads import Threads


def test_a_job_without_a_thread_is_refused_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    threads = Threads(2)
    first = threads.start(lambda: "first")
    assert first.result(10) == "first"
    hold = threading.Event()
    busy = threads.start(hold.wait)

    def none_left(thread: Any) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", none_left)
        with pytest.raises(Overloaded):
            threads.start(lambda: ran.append("refused"))
    hold.set()
    assert busy.result(10)
    assert threads.start(lambda: "next").result(10) == "next"
    threads.shutdown()
    assert ran == []
    with pytest.raises(ShuttingDown):
        threads.start(lambda: ran.append("late"))
