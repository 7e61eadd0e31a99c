"""Places for uploads go from those that send next to nothing to those that wait."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from app.domain.errors import Overloaded, UploadStalled
from app.engine.work import Work
from app.service.ticket import Ticket
from app.service.upload_places import UploadPlace, UploadPlaces


def test_the_slowest_upload_makes_room_and_no_fast_one() -> None:
    now = [0.0]
    places = UploadPlaces(3, min_bytes_per_s=1000, window_s=5, clock=lambda: now[0])
    guests: dict[str, Ticket] = {}
    with ExitStack() as stack:

        def enter(name: str) -> UploadPlace:
            guests[name] = Ticket(Work(name, 60), "transcription", 0.0, account="client")
            return stack.enter_context(places.enter(guests[name]))

        def gone() -> list[str]:
            return [name for name, guest in guests.items() if guest.gave_way]

        _, drips, fast = [enter(name) for name in ("silent", "drips", "fast")]
        with pytest.raises(Overloaded, match="Too many uploads"):
            enter("early")  # all of them have only just begun
        for _ in range(6):
            now[0] += 2
            drips.observe(1)
            fast.observe(100_000)
        enter("next")
        enter("last")
        assert gone() == ["silent", "drips"]
        with pytest.raises(UploadStalled, match="others waited"):
            guests["silent"].work.check()
        with pytest.raises(Overloaded):
            enter("one too many")
        assert gone() == ["silent", "drips"]
    with places.enter(guests["early"]):  # whatever is left of them takes no place
        pass
