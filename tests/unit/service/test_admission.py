"""Admission by number and by seconds of audio."""

from __future__ import annotations

import pytest

from app.domain.errors import Cancelled, Overloaded
from app.engine.work import Work
from app.service.admission import Admission


def test_seconds_of_audio_are_bounded() -> None:
    admission = Admission(10, max_audio_s=100)
    with admission.enter("transcription", Work("a", 60)) as first:
        admission.weigh(first, 5000)  # alone, it may be as long as it likes
        with admission.enter("transcription", Work("b", 60)) as second:
            with pytest.raises(Overloaded) as refusal:
                admission.weigh(second, 1)
            assert refusal.value.retry_after_s is not None
            admission.weigh(first, 60)
            admission.weigh(second, 40)
    with admission.enter("transcription", Work("c", 60)) as third:
        assert admission.weigh(third, 86_400, 0.5) == 86_400  # a day, most of it gaps
        with admission.enter("transcription", Work("d", 60)) as fourth:
            admission.weigh(fourth, 99)


def test_the_time_to_come_back_is_that_of_the_request_nearest_to_its_end() -> None:
    now = [0.0]
    admission = Admission(2, clock=lambda: now[0])
    with (
        admission.enter("transcription", Work("a", 60)) as a,
        admission.enter("transcription", Work("b", 60)) as b,
    ):
        now[0] = 30.0
        a.work.progress, b.work.progress = 0.5, 0.75
        entries = {entry.id: entry for entry in admission.entries()}
        assert entries["a"].left_s == pytest.approx(30)
        assert entries["b"].left_s == pytest.approx(10)
        with (
            pytest.raises(Overloaded) as refusal,
            admission.enter("transcription", Work("c", 60)),
        ):
            pass
        assert refusal.value.retry_after_s == 10
        assert admission.cancel("a")
        with pytest.raises(Cancelled):
            a.work.check()
        assert not admission.cancel("nobody")
