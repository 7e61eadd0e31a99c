"""Finals with a transcriber that does as a test says: what becomes of each utterance, and when."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from app.domain.errors import ModelUnavailable, Overloaded, ServiceError, UnsupportedOption
from app.domain.transcript import Samples, Segment, Transcript
from app.engine.work import Work
from app.live import events
from app.live.finals import (
    LAGGING_EVERY_S,
    LAGGING_PER_S,
    LAGGING_S,
    LOST_PER_S,
    LOST_S,
    TRIES,
    Finals,
)
from app.live.options import LiveOptions
from app.live.utterance import Utterance

SOUND = np.zeros(160, np.float32)
OUTCOMES = (events.Final, events.Failed, events.Dropped)


class Transcribed:
    """Finals whose thread is the test's: what others post waits until the test runs it."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.posted: list[Callable[[], None]] = []
        self.tries: list[tuple[int, Future[Transcript]]] = []
        self.now = 0.0
        self.finals = Finals(
            self._transcribe, self._work, self.told.append, self.posted.append, lambda: self.now
        )
        self.number = 0

    def _work(self) -> Work:
        return Work("w", 60)

    def _transcribe(self, utterance: Utterance, samples: Samples) -> Future[Transcript]:
        self.tries.append((utterance.number, utterance.work.track(Future())))
        return self.tries[-1][1]

    def end_utterance(self, duration_s: float = 1.0) -> None:
        self.number += 1
        utterance = Utterance(self.number, 0.0, self._work(), LiveOptions("m", language="en"))
        utterance.end_s = duration_s
        self.finals.add(utterance, SOUND)

    def running(self) -> list[tuple[int, Future[Transcript]]]:
        return [(number, future) for number, future in self.tries if not future.done()]

    def run_posted(self) -> None:
        while self.posted:
            self.posted.pop(0)()

    def outcomes(self) -> list[tuple[str, int]]:
        return [(type(e).__name__, e.utterance) for e in self.told if isinstance(e, OUTCOMES)]


def transcript(number: int) -> Transcript:
    return Transcript("en", 1.0, "m", (Segment(0.0, 1.0, f" number {number}"),))


def test_a_later_transcript_does_not_take_the_second_try() -> None:
    """The later one is looked at while the failure of the first is not known yet."""
    heard = Transcribed()
    heard.end_utterance()
    heard.end_utterance()
    (_, first), (_, second) = heard.tries
    first.set_exception(ModelUnavailable("gone"))
    second.set_result(transcript(2))
    heard.posted.reverse()
    heard.run_posted()
    assert heard.outcomes() == []
    [(number, again)] = heard.running()
    again.set_result(transcript(number))
    heard.run_posted()
    assert heard.outcomes() == [("Final", 1), ("Final", 2)]


def test_what_ends_with_the_session_is_not_told() -> None:
    heard = Transcribed()
    heard.end_utterance()
    heard.finals.cancel(Overloaded("full"))
    heard.run_posted()
    assert heard.told == []
    assert not heard.finals
    assert heard.running() == []


def test_a_try_that_ends_after_a_reset_is_nobodys() -> None:
    heard = Transcribed()
    heard.end_utterance()
    [(_, running)] = heard.tries
    running.set_running_or_notify_cancel()  # too late to cancel
    heard.finals.drop()
    running.set_exception(ModelUnavailable("gone"))
    heard.run_posted()
    assert heard.outcomes() == [("Dropped", 1)]
    assert len(heard.tries) == 1
    assert len(heard.told) == 1


@pytest.mark.parametrize("seed", range(60))
def test_each_utterance_has_one_outcome(seed: int) -> None:
    """In whatever order things happen: one outcome, in order, and at most so many tries."""
    chance, heard = random.Random(seed), Transcribed()
    errors: list[ServiceError] = [ModelUnavailable("gone"), UnsupportedOption("no")]

    def finish() -> None:
        if running := heard.running():
            number, future = chance.choice(running)
            if not future.set_running_or_notify_cancel():
                return
            if chance.random() < 0.6:
                future.set_result(transcript(number))
            else:
                future.set_exception(chance.choice(errors))

    def look() -> None:
        if heard.posted:
            heard.posted.pop(chance.randrange(len(heard.posted)))()

    acts = [heard.end_utterance, finish, look]
    for _ in range(80):
        chance.choices([*acts, heard.finals.drop], [3, 6, 6, 0.3])[0]()
    while heard.finals:
        finish()
        heard.run_posted()
    told = [number for _, number in heard.outcomes()]
    assert told == list(range(1, heard.number + 1))
    for number, _ in heard.tries:
        assert sum(n == number for n, _ in heard.tries) <= TRIES


@pytest.mark.parametrize("duration_s", [1.0, 28.0, 600.0])
def test_lag_is_told_before_it_ends_the_stream_and_grows_with_the_utterance(
    duration_s: float,
) -> None:
    heard = Transcribed()
    heard.end_utterance(duration_s)
    heard.now = LAGGING_S + LAGGING_PER_S * duration_s - 0.1
    assert 0.9 < heard.finals.strain < 1
    heard.finals.check_lag()
    assert heard.told == []
    lost_s = LOST_S + LOST_PER_S * duration_s
    heard.now = lost_s + 1  # nobody looked meanwhile
    heard.finals.check_lag()
    assert [type(event) for event in heard.told] == [events.Lagging]
    heard.finals.check_lag()
    heard.now += LAGGING_EVERY_S
    with pytest.raises(Overloaded):
        heard.finals.check_lag()


def test_what_was_to_be_done_before_counts_too() -> None:
    """A client sends a minute at once: the last utterance waits for the others."""
    heard = Transcribed()
    for _ in range(4):
        heard.end_utterance(15.0)
    for _, future in heard.running()[:3]:
        future.set_result(transcript(0))
    heard.run_posted()
    heard.now = LAGGING_S + LAGGING_PER_S * 60 - 0.1
    heard.finals.check_lag()
    assert not [event for event in heard.told if isinstance(event, events.Lagging)]


def test_all_is_well_once_the_late_one_is_there() -> None:
    heard = Transcribed()
    heard.end_utterance()
    heard.now = 30.0
    heard.finals.check_lag()
    heard.running()[0][1].set_result(transcript(1))
    heard.run_posted()
    heard.finals.check_lag()
    assert heard.finals.strain == 0
    heard.end_utterance()
    heard.now += LAGGING_S + 1
    heard.finals.check_lag()
    assert [type(event).__name__ for event in heard.told] == ["Lagging", "Final", "Lagging"]
