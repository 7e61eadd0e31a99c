"""Admission by number and by seconds of audio."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack

import pytest

from app.domain.errors import Cancelled, Forbidden, Overloaded
from app.engine.work import Work
from app.service.admission import Admission
from app.service.ticket import Ticket
from app.service.upload_places import UploadPlaces


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


def test_background_work_takes_no_place_of_others() -> None:
    admission = Admission(1, max_audio_s=100)
    job = Work("job", 60, background=True)
    with admission.enter("job", job, "Anna") as ticket:
        admission.weigh(ticket, 100_000)
        with admission.enter("transcription", Work("a", 60)) as first:
            admission.weigh(first, 100)
            with admission.enter("job", Work("later job", 60, background=True)) as later:
                assert admission.weigh(later, 100_000) == 100_000
            with pytest.raises(Overloaded), admission.enter("transcription", Work("b", 60)):
                pass
            assert [entry.id for entry in admission.entries()] == ["job", "a"]
            job.check()
        with pytest.raises(Forbidden):
            admission.cancel("job", "Bert")
        assert admission.cancel("job", "Anna")
        with admission.enter("job", Work("nobody's", 60, background=True)):
            with pytest.raises(Forbidden):  # such as a message of a queue: it came with no key
                admission.cancel("nobody's", "Bert")
            assert admission.cancel("nobody's")
        with pytest.raises(Cancelled):
            job.check()


# -- shares of clients ---------------------------------------------------------------------------


class Crowd:
    """Requests of several clients, each in its place until the crowd leaves."""

    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self.tickets: list[Ticket] = []
        self._stack = ExitStack()

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def come(self, account: str, uploading: bool = False) -> Ticket:
        work = Work(f"{account}{len(self.tickets)}", 60)
        ticket = self._stack.enter_context(
            self.admission.enter("transcription", work, account=account)
        )
        self.tickets.append(ticket)
        if uploading:
            self._stack.enter_context(self.admission.uploading(work))
        return ticket

    def refused(self, account: str, uploading: bool = False) -> int:
        with pytest.raises(Overloaded) as refusal:
            self.come(account, uploading)
        assert refusal.value.retry_after_s is not None
        return refusal.value.retry_after_s

    def places(self) -> Counter[str]:
        return Counter(ticket.account for ticket in self.tickets if not ticket.gave_way)


@pytest.mark.parametrize("uploading", [False, True])
def test_who_is_alone_has_all_places_until_others_come(uploading: bool) -> None:
    admission = Admission(100, uploads=UploadPlaces(6)) if uploading else Admission(6)
    with Crowd(admission) as crowd:
        for _ in range(6):
            crowd.come("greedy", uploading)
        crowd.refused("greedy", uploading)
        for _ in range(3):
            crowd.come("Anna", uploading)
        crowd.refused("Anna", uploading)
        crowd.refused("greedy", uploading)
        for _ in range(2):
            crowd.come("Bert", uploading)
        crowd.refused("Bert", uploading)
        assert crowd.places() == {"greedy": 2, "Anna": 2, "Bert": 2} or uploading
        assert len(admission.entries()) == sum(crowd.places().values())
        gone = [t for t in crowd.tickets if t.gave_way]
        assert [t.account for t in gone] == ["greedy"] * 4 + ["Anna"] * (len(gone) - 4)
        assert not crowd.tickets[0].gave_way  # the newest do
        with pytest.raises(Overloaded, match="Other clients"):
            gone[0].work.check()


def test_what_has_begun_gives_no_way() -> None:
    with Crowd(Admission(2)) as crowd:
        for progress in (0.5, 0.25):
            crowd.come("greedy").work.progress = progress
        crowd.refused("Anna")
        crowd.tickets[0].work.progress = 0.0
        crowd.come("Anna")
        assert [ticket.gave_way for ticket in crowd.tickets] == [True, False, False]
        crowd.refused("Bert")  # more clients than places


def test_a_share_of_the_audio_is_free_for_those_who_have_none() -> None:
    with Crowd(Admission(10, max_audio_s=100)) as crowd:
        weigh = crowd.admission.weigh
        weigh(crowd.come("greedy"), 40)
        weigh(crowd.come("greedy"), 60)
        with pytest.raises(Overloaded):
            weigh(crowd.come("greedy"), 1)
        weigh(crowd.come("Anna"), 30)
        weigh(crowd.come("Anna"), 20)
        with pytest.raises(Overloaded):
            weigh(crowd.come("Anna"), 1)
        weigh(crowd.come("Bert"), 33)


def test_the_time_to_come_back_follows_the_audio_that_must_be_done() -> None:
    now = [0.0]
    with Crowd(Admission(10, max_audio_s=100, clock=lambda: now[0])) as crowd:
        short, long = crowd.come("greedy"), crowd.come("greedy")
        crowd.admission.weigh(short, 20)
        crowd.admission.weigh(long, 80)
        now[0] = 30.0
        short.work.progress, long.work.progress = 0.75, 0.25
        late = crowd.come("greedy")
        waits = []
        for audio_s in (20, 21):
            with pytest.raises(Overloaded) as refusal:
                crowd.admission.weigh(late, audio_s)
            waits.append(refusal.value.retry_after_s)
        assert waits == [10, 90]
