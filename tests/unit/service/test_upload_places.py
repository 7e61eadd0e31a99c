"""Places for uploads go from those that send next to nothing to those that wait."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from app.domain.errors import Overloaded
from app.service.upload_places import UploadPlaces


def test_the_slowest_upload_makes_room_and_no_fast_one() -> None:
    now = [0.0]
    ended: list[str] = []
    places = UploadPlaces(3, min_bytes_per_s=1000, window_s=5, clock=lambda: now[0])
    with ExitStack() as stack:

        def enter(name: str) -> None:
            taken[name] = stack.enter_context(places.enter(lambda: ended.append(name)))

        taken = {}
        for name in ("silent", "drips", "fast"):
            enter(name)
        with pytest.raises(Overloaded, match="Too many uploads"):
            enter("early")  # all of them have only just begun
        for _ in range(6):
            now[0] += 2
            taken["drips"].observe(1)
            taken["fast"].observe(100_000)
        enter("next")
        enter("last")
        assert ended == ["silent", "drips"]
        with pytest.raises(Overloaded):
            enter("one too many")
        assert ended == ["silent", "drips"]
    with places.enter(lambda: None):  # whatever is left of them takes no place
        pass
