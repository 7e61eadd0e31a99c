"""Joining: who waits for what, and what happens when they leave."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from app.domain.errors import (
    Cancelled,
    ClientGone,
    DeadlineExceeded,
    ServiceError,
    ShuttingDown,
    StageFailed,
    UndecodableAudio,
)
from app.domain.transcript import Segment, Transcript
from app.engine.work import Work
from app.observability.record import RequestRecord
from app.pipeline.flow import NOBODY, Listener
from app.service import joining
from app.service.computation import Computation
from app.service.joining import Failed, Joining, JoiningLimits
from app.service.threads import Threads
from app.service.ticket import Ticket
from tests.support.waiting import eventually

HOUR_S = 3600.0


class Desk:
    """Asks for transcripts whose computation ends when its future is set."""

    def __init__(self, **limits: float) -> None:
        self.threads = Threads(8)
        self.waiting = ThreadPoolExecutor(8)
        self.joining = Joining(self.threads, JoiningLimits(**limits))
        self.computed: list[tuple[Computation, Future[Transcript], Listener]] = []

    def ask(
        self, key: str = "key", timeout_s: float = 60, listener: Listener = NOBODY
    ) -> tuple[Work, RequestRecord, Future[Transcript]]:
        work, record = Work("request", timeout_s), RequestRecord("request", "", "")
        computation, member = self.joining.enter(key, Ticket(work, "asked", 0.0), record)
        if member.is_first:
            self._begin(computation)
        waiting = self.joining.wait
        return work, record, self.waiting.submit(waiting, computation, member, listener, record)

    def _begin(self, computation: Computation) -> None:
        done: Future[Transcript] = computation.work.track(Future())
        begun = threading.Event()

        def compute(listener: Listener) -> Transcript:
            self.computed.append((computation, done, listener))
            begun.set()
            return computation.work.wait(done)

        self.joining.begin(computation, compute, lambda: None)
        assert begun.wait(10)

    def finish(self, duration_s: float = 1.0) -> Transcript:
        transcript = Transcript("en", duration_s, "demo")
        self.computed[-1][1].set_result(transcript)
        return transcript

    def close(self) -> None:
        for _, done, _ in self.computed:
            done.cancel()
        self.joining.shut_down()
        self.waiting.shutdown()


@pytest.fixture
def opened() -> Iterator[Callable[..., Desk]]:
    desks: list[Desk] = []

    def create(**limits: float) -> Desk:
        desks.append(Desk(**limits))
        return desks[-1]

    yield create
    for desk in desks:
        desk.close()


def test_one_computation_for_all_and_for_those_who_come_later(opened: Any) -> None:
    desk = opened()
    asked = [desk.ask() for _ in range(3)]
    desk.computed[0][0].work.progress = 0.5
    assert [work.progress for work, _, _ in asked] == [0.5] * 3
    transcript = desk.finish()
    assert all(answer.result(10) is transcript for _, _, answer in asked)
    assert desk.ask()[2].result(10) is transcript
    assert [record.joined for _, record, _ in asked] == [False, True, True]
    assert sum(record.counts for _, record, _ in asked) == 1
    desk.ask("another key")
    assert len(desk.computed) == 2


def test_what_was_told_before_is_told_again(opened: Any) -> None:
    desk = opened()
    heard: list[list[tuple[str, Segment]]] = [[], [], []]
    listeners = [
        Listener(
            lambda segment, to=to: to.append(("recognized", segment)),
            lambda segment, to=to: to.append(("settled", segment)),
        )
        for to in heard
    ]
    answers = [desk.ask(listener=listeners[0])[2]]
    segments = [Segment(i, i + 1, f"part {i}") for i in range(3)]
    tell = desk.computed[0][2]
    tell.recognized(segments[0])
    tell.settled(segments[0])
    answers.append(desk.ask(listener=listeners[1])[2])
    tell.recognized(segments[1])
    desk.finish()
    answers.append(desk.ask(listener=listeners[2])[2])
    for answer in answers:
        answer.result(10)
    told = [("recognized", segments[0]), ("settled", segments[0]), ("recognized", segments[1])]
    assert heard == [told] * 3


@pytest.mark.parametrize("leaver", [0, 1])
def test_who_leaves_does_not_take_others_along(opened: Any, leaver: int) -> None:
    desk = opened()
    asked = [desk.ask(), desk.ask()]
    asked[leaver][0].cancel(Cancelled("gone"))
    with pytest.raises(Cancelled):
        asked[leaver][2].result(10)
    transcript = desk.finish()
    assert asked[1 - leaver][2].result(10) is transcript


def test_nothing_is_computed_for_nobody(opened: Any) -> None:
    """Neither for one that hung up early, nor without JOIN_LINGER_SECONDS, nor if cancelled."""
    limits: list[tuple[ServiceError, dict[str, float]]] = [
        (ClientGone(), {"patience_s": HOUR_S}),
        (ClientGone(), {"patience_s": 0.0, "linger_s": 0.0}),
        (Cancelled("gone"), {"patience_s": 0.0}),
    ]
    for reason, given in limits:
        desk = opened(**given)
        for work, _, answer in (desk.ask(), desk.ask()):
            work.cancel(reason)
            with pytest.raises(type(reason)):
                answer.result(10)
        with pytest.raises(type(reason)):
            desk.computed[0][0].work.check()
        _, record, _ = desk.ask()
        assert not record.joined


def test_a_client_that_timed_out_finds_its_work_again(opened: Any) -> None:
    desk = opened(patience_s=0.0, linger_s=HOUR_S)
    for _ in range(2):
        work, _, answer = desk.ask()
        work.cancel(ClientGone())
        with pytest.raises(ClientGone):
            answer.result(10)
        eventually(lambda: desk.computed[0][0].work.background)
    _, record, answer = desk.ask()
    assert record.joined
    assert not desk.computed[0][0].work.background
    transcript = desk.finish()
    assert answer.result(10) is transcript


@pytest.mark.parametrize("ending", ["time", "shutdown"])
def test_work_that_nobody_comes_back_for_ends(opened: Any, ending: str) -> None:
    desk = opened(patience_s=0.0, linger_s=0.2 if ending == "time" else HOUR_S)
    work, _, answer = desk.ask()
    work.cancel(ClientGone())
    with pytest.raises(ClientGone):
        answer.result(10)
    [(computation, done, _)] = desk.computed
    if ending == "shutdown":
        desk.joining.close()
    eventually(done.cancelled)
    assert computation.over.wait(10)
    _, record, _ = desk.ask()
    assert not record.joined


def test_few_linger(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "MAX_LINGERING", 1)
    desk = opened(patience_s=0.0, linger_s=HOUR_S)
    for key in ("one", "two"):
        work, _, answer = desk.ask(key)
        work.cancel(ClientGone())
        with pytest.raises(ClientGone):
            answer.result(10)
    assert [done.cancelled() for _, done, _ in desk.computed] == [False, True]


def test_failures_are_shared_if_the_recording_is_at_fault(opened: Any) -> None:
    desk = opened()
    errors: list[tuple[ServiceError, type[Exception]]]
    errors = [(UndecodableAudio("broken"), UndecodableAudio), (StageFailed("ours"), Failed)]
    for error, for_others in errors:
        (_, _, first), (_, _, second) = desk.ask(), desk.ask()
        desk.computed[-1][1].set_exception(error)
        with pytest.raises(type(error)):
            first.result(10)
        with pytest.raises(for_others):
            second.result(10)
        _, record, answer = desk.ask()
        assert not record.joined
        desk.finish()
        answer.result(10)
        desk.joining._known.clear()


def test_the_deadline_is_that_of_each(opened: Any) -> None:
    """And the computation may take as long as one of them may."""
    desk = opened()
    (_, _, first), (_, _, second) = desk.ask(timeout_s=0.3), desk.ask(timeout_s=60)
    with pytest.raises(DeadlineExceeded):
        first.result(10)
    transcript = desk.finish()
    assert second.result(10) is transcript
    _, _, late = desk.ask("another key", timeout_s=0.1)
    with pytest.raises(DeadlineExceeded):
        late.result(10)
    assert desk.computed[-1][1].cancelled()


@pytest.mark.parametrize(
    ("limits", "kept"),
    [({}, [True, True, True]), ({"keep_audio_s": 25.0}, [False, True, True]),
     ({"keep_s": 0.0}, [False, False, False])],
)  # fmt: skip
def test_few_transcripts_are_kept(opened: Any, limits: dict[str, float], kept: list[bool]) -> None:
    desk = opened(**limits)
    for key in "abc":
        _, _, answer = desk.ask(key)
        desk.finish(duration_s=10.0)
        answer.result(10)
    desk.joining.forget()
    assert [key in desk.joining._known for key in "abc"] == kept


def test_who_comes_during_shutdown_is_told(opened: Any) -> None:
    desk = opened()
    work, record = Work("late", 60), RequestRecord("late", "", "")
    desk.joining.shut_down()
    computation, member = desk.joining.enter("key", Ticket(work, "asked", 0.0), record)
    cleaned: list[bool] = []
    desk.joining.begin(
        computation, lambda listener: Transcript("en", 1.0, "demo"), lambda: cleaned.append(True)
    )
    with pytest.raises(ShuttingDown):
        desk.joining.wait(computation, member, NOBODY, record)
    assert cleaned == [True]
