"""How many transcribers a load needs, and which one a request goes to."""

from __future__ import annotations

import numpy as np
import pytest

from app.serving.autoscaling import BUSY, QUEUED_S, Load, QueuedAudio, wanted_transcribers
from app.serving.busy import BusyShare
from app.serving.orders import to_sound, write_samples
from app.serving.routing import Candidate, ranked

TARGET_S = 600.0


def wanted(*queued_s: float, waiting: float = 0, requests: float | None = None) -> int:
    num = float(len(queued_s)) + waiting if requests is None else requests
    return wanted_transcribers(Load(queued_s, waiting, num, len(queued_s)), TARGET_S)


def test_nobody_asks_for_anything() -> None:
    assert wanted(0.0, 0.0, requests=0) == 0
    assert wanted(requests=0) == 0


def test_audio_counts_and_not_requests() -> None:
    assert wanted(10.0, requests=40) == 1  # forty clips
    assert wanted(8 * 3600.0, requests=1) == 1  # one recording stays at one transcriber
    assert wanted(48 * 600.0, requests=60) == 48
    assert wanted(900.0, 300.0) == 2


def test_a_request_that_nobody_has_taken_counts_as_its_like() -> None:
    assert wanted(waiting=1, requests=1) == 1  # from none
    assert wanted(600.0, waiting=9, requests=10) == 10


def test_questions_of_the_fronts_keep_nobody() -> None:
    assert wanted(0.0, 0.0, requests=2) == 0
    assert wanted(0.0, waiting=1, requests=3) == 1


def test_a_load_at_the_edge_ends_nobody() -> None:
    assert wanted(300.0, 300.0) == 2  # one would be full
    assert wanted(200.0, 200.0) == 1


def test_those_that_have_enough_to_do_stay() -> None:
    """Little audio waits where enough of them work."""
    at_work = Load((40.0, 30.0, 20.0, 0.0, 0.0), 0, 6.0, 5, busy=(1.0, 1.0, 0.9, 0.1, 0.0))
    assert wanted_transcribers(at_work, TARGET_S) == 4
    between = Load((0.0, 0.0, 0.0), 0, 0.0, 3, busy=(0.8, 0.7, 0.0))
    assert wanted_transcribers(between, TARGET_S) == 2
    alone = Load((8 * 3600.0, 0.0), 0, 1.0, 2, busy=(1.0, 0.5))
    assert wanted_transcribers(alone, TARGET_S) == 1


def test_the_share_of_time_with_work() -> None:
    now = [0.0]
    busy = BusyShare(lambda: now[0])
    with busy.working(), busy.working():
        now[0] = 600.0
    assert busy.share() == pytest.approx(1.0, abs=0.001)
    now[0] += 60.0
    assert busy.share() == pytest.approx(0.37, abs=0.01)
    for _ in range(600):  # each second a tenth
        with busy.working():
            now[0] += 0.1
        now[0] += 0.9
    assert busy.share() == pytest.approx(0.1, abs=0.01)


def test_rays_controller_calls_it() -> None:
    class Context:
        current_num_replicas = 1
        total_num_requests = 3.0
        total_queued_requests = 0.0
        aggregated_metrics = {QUEUED_S: {"a": 1500.0}}  # noqa: RUF012

    assert QueuedAudio(TARGET_S)(Context()) == (3, {})
    Context.current_num_replicas = 4
    Context.aggregated_metrics = {QUEUED_S: {"a": 100.0}, BUSY: {"a": 1.0, "b": 0.6}}
    assert QueuedAudio(TARGET_S)(Context()) == (2, {})
    Context.aggregated_metrics = {}  # before anybody has reported
    assert QueuedAudio(TARGET_S)(Context()) == (0, {})


FULL_S = 160.0


@pytest.mark.parametrize(
    ("queued", "best"),
    [
        ({"idle": 0.0, "busy": 100.0}, "busy"),  # its batches become fuller
        ({"idle": 0.0, "busy": 200.0}, "idle"),  # it is full
        ({"a": 500.0, "b": 170.0}, "b"),
    ],
)
def test_batches_are_filled_one_after_the_other(queued: dict[str, float], best: str) -> None:
    candidates = [Candidate(name, frozenset({"m"}), s) for name, s in queued.items()]
    assert ranked(candidates, "m", FULL_S)[0] == best


def test_a_model_that_is_loaded_goes_first() -> None:
    has, has_not = frozenset({"m"}), frozenset({"other"})
    a, b = Candidate("a", has, 200.0), Candidate("b", has_not, 0.0)
    assert ranked([b, a], "m", FULL_S) == ["a", "b"]
    crowded = Candidate("a", has, 4 * FULL_S)
    assert ranked([crowded, b], "m", FULL_S) == ["b", "a"]  # worth another load
    assert ranked([crowded], "m", FULL_S) == ["a"]


def test_sound_of_16_bits_arrives_as_it_was() -> None:
    sound = np.arange(-32768, 32768, 7, dtype=np.int16)
    samples = write_samples(sound, np.empty(len(sound), np.float32))
    assert np.array_equal(to_sound(samples), sound)
    assert np.abs(samples).max() <= 1.0
    assert list(to_sound(np.array([1.0, -1.0, 0.0], np.float32))) == [32767, -32768, 0]
