"""Turns: a client with many utterances does not keep others waiting, and order stays."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest

from app.domain.errors import ModelUnavailable, ShuttingDown
from app.live.turns import MOST_AT_ONCE, Place, Turns
from app.service.threads import Threads
from tests.support.waiting import eventually

log = logging.getLogger(__name__)


class Hall:
    """Jobs that end when the test says so. `begun`: in order."""

    def __init__(self, num_at_once: int) -> None:
        self.threads = Threads(num_at_once)
        self.turns = Turns(self.threads, num_at_once)
        self.begun: list[str] = []
        self._may_end: dict[str, threading.Event] = {}
        self.futures = {}

    def add(self, name: str) -> None:
        """A job of the session `name[:2]` of the client `name[0]`."""
        event = self._may_end[name] = threading.Event()

        def job() -> str:
            self.begun.append(name)
            assert event.wait(30)
            return name

        self.futures[name] = self.turns.start(Place(name[0], name[:2]), job)

    def end(self, name: str) -> None:
        eventually(lambda: name in self.begun)
        self._may_end[name].set()
        assert self.futures[name].result(30) == name

    def end_all(self) -> None:
        for event in self._may_end.values():
            event.set()
        self.threads.shutdown()


@pytest.fixture
def hall() -> Iterator[Hall]:
    hall = Hall(4)
    yield hall
    hall.end_all()


def begun(hall: Hall, number: int) -> list[str]:
    eventually(lambda: len(hall.begun) >= number)
    return hall.begun


def test_a_session_has_few_at_once_and_keeps_its_order(hall: Hall) -> None:
    names = [f"a1{n}" for n in range(6)]
    for name in names:
        hall.add(name)
    assert sorted(begun(hall, MOST_AT_ONCE)) == names[:MOST_AT_ONCE]
    for number, name in enumerate(names):
        hall.end(name)
        waited_for = names[: MOST_AT_ONCE + number + 1]
        assert sorted(begun(hall, len(waited_for))) == waited_for


def test_the_client_with_the_fewest_is_next(hall: Hall) -> None:
    for session in "123456":
        for number in range(3):
            hall.add(f"a{session}{number}")
    assert len(begun(hall, 4)) == 4
    for name in ("b10", "b11", "c10"):
        hall.add(name)
    for name in list(hall.begun[:3]):
        hall.end(name)
    assert begun(hall, 7)[4:6] == ["b10", "c10"]
    hall.end(hall.begun[3])
    assert "b11" in begun(hall, 8)[6:]  # not after all of a


def test_sessions_of_a_client_take_turns() -> None:
    hall = Hall(1)
    for name in ("a10", "a11", "a12", "a20", "a21", "a30"):
        hall.add(name)
    for name in ("a10", "a20", "a30", "a11", "a21", "a12"):
        hall.end(name)
    assert hall.begun == ["a10", "a20", "a30", "a11", "a21", "a12"]
    hall.end_all()


def test_failures_and_cancelled_jobs_free_their_place() -> None:
    hall, place = Hall(1), Place("a", "a1")

    def broken() -> str:
        raise ModelUnavailable("gone")

    hall.add("a1")
    failing = hall.turns.start(place, broken)
    cancelled = hall.turns.start(place, lambda: hall.begun.append("never"))
    assert cancelled.cancel()
    hall.add("a2")
    hall.end("a1")
    hall.end("a2")
    assert isinstance(failing.exception(30), ModelUnavailable)
    hall.add("a3")
    hall.end("a3")
    assert hall.begun == ["a1", "a2", "a3"]
    hall.end_all()


def test_after_the_end_jobs_fail_at_once() -> None:
    hall = Hall(1)
    hall.add("a1")
    begun(hall, 1)
    hall.add("a2")
    hall.threads.shutdown(wait=False)
    hall.end_all()
    assert isinstance(hall.futures["a2"].exception(30), ShuttingDown)
    late = hall.turns.start(Place("a", "a1"), lambda: "late")
    assert isinstance(late.exception(30), ShuttingDown)
