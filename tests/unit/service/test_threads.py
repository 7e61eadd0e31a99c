"""Threads: a job that was refused never runs, and one that failed keeps nothing alive."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from app.domain.errors import Cancelled, Overloaded, ShuttingDown
from app.service.threads import Threads
from tests.support.waiting import eventually


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


class Recording:
    """What a job hears."""


@pytest.fixture
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def failing(recording: Recording, chained: bool) -> Callable[[], None]:
    def job() -> None:
        try:
            assert recording
            raise Overloaded("first", 1)
        except Overloaded as first:
            if chained:
                try:
                    raise KeyError("second") from ValueError("its cause")
                except KeyError as second:
                    raise Cancelled("third") from second
            raise Cancelled("second") from first

    return job


@pytest.mark.usefixtures("_no_collector")
@pytest.mark.parametrize("chained", [False, True])
def test_what_was_cancelled_keeps_nothing_of_its_job(chained: bool) -> None:
    """Not even in a cycle: an idle service may not collect garbage for hours. The error is kept, as
    that of a computation is.
    """
    threads = Threads(1)
    recording = Recording()
    alive = weakref.ref(recording)
    future = threads.start(failing(recording, chained))
    del recording
    error = future.exception(10)
    assert isinstance(error, Cancelled)
    assert error.__cause__ is not None, "why it was is known still"
    threads.shutdown()
    eventually(lambda: alive() is None, 10)
