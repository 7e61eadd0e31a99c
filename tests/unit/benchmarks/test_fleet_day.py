"""The simulation of a fleet: it chooses as the service does, and no work is lost in it."""

from __future__ import annotations

import numpy as np
import pytest

from app.serving.routing import Candidate, ranked
from benchmarks.fleet_day import by_audio, by_requests, day
from benchmarks.fleet_model import (
    FULL_S,
    Fleet,
    FullestFirst,
    Policy,
    Request,
    Router,
    Transcriber,
    TwoAtRandom,
)


def test_it_chooses_as_the_service_does() -> None:
    random = np.random.default_rng(0)
    transcribers = [Transcriber(i, 0.0, 60.0) for i in range(7)]
    router = FullestFirst()
    router.renew(transcribers)
    for number in range(300):
        candidates = [Candidate(t.number, frozenset({"m"}), t.sent_s) for t in transcribers]
        chosen = router.choose()
        best = ranked(candidates, "m", FULL_S)[0]
        assert chosen.sent_s == transcribers[best].sent_s
        before_s = chosen.sent_s
        if number % 3 == 2 and chosen.requests:
            chosen.end()
        else:
            chosen.take(number, Request(0.0, float(random.uniform(1, 90)), "clip"))
        router.changed(chosen, before_s)


def test_one_after_the_other_takes_its_time() -> None:
    """Two equal recordings share a transcriber, so both end when the two are done."""
    fleet = Fleet(lambda _: 1, FullestFirst(), most=1, speed=60.0, seed=0, start=1)
    fleet.run([Request(0.0, 3600.0, "meeting")] * 2)
    assert fleet.waits["meeting"] == pytest.approx([60.0, 60.0])
    assert fleet.audio_s == 7200.0


@pytest.mark.parametrize(
    ("policy", "router"), [(by_audio(600), FullestFirst()), (by_requests(2), TwoAtRandom(0))]
)
def test_all_requests_of_a_day_are_done(policy: Policy, router: Router) -> None:
    requests = day(np.random.default_rng(0), 1, 60.0, mixed=True)
    fleet = Fleet(policy, router, most=1, speed=60.0, seed=0, start=1)
    fleet.run(requests)
    assert sum(map(len, fleet.waits.values())) == len(requests)
    assert fleet.audio_s == pytest.approx(sum(request.audio_s for request in requests))
