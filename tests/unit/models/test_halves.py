"""Both halves of a batch at once: the order stays, and a fault waits for the other half."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from app.config.settings import DEMO_DIR
from app.domain.options import DecodingOptions
from app.models.protocols import RecognitionItem
from app.models.recognizers.halves import Halves
from app.models.recognizers.whisper import WhisperRecognizer
from tests.support.media import speech


@pytest.fixture
def halves() -> Iterator[Halves]:
    halves = Halves(2)
    yield halves
    halves.close()


@pytest.mark.parametrize("num_items", range(6))
def test_outcomes_are_in_the_order_of_the_items(halves: Halves, num_items: int) -> None:
    assert halves.call(lambda rows: [10 * row for row in rows], num_items) == [
        10 * row for row in range(num_items)
    ]


def test_both_halves_are_under_way_at_once(halves: Halves) -> None:
    both = threading.Barrier(2, timeout=30)
    assert halves.call(lambda rows: [both.wait() and row for row in rows], 2)


@pytest.mark.parametrize("failing", [0, 1])
def test_a_fault_of_one_half_is_told_after_the_other_has_ended(
    halves: Halves, failing: int
) -> None:
    failed, ended = threading.Event(), threading.Event()

    def model(rows: Sequence[int]) -> list[int]:
        if failing in rows:
            failed.set()
            raise RuntimeError("out of memory")
        assert failed.wait(30)
        ended.set()
        return list(rows)

    with pytest.raises(RuntimeError, match="out of memory"):
        halves.call(model, 4)
    assert ended.is_set()
    assert halves.call(list, 3) == [0, 1, 2]


def test_two_workers_hear_what_one_hears() -> None:
    sound = speech("en_mono")
    items = [
        RecognitionItem(
            np.ascontiguousarray(sound[16_000 * i : 16_000 * (i + 5)]),
            DecodingOptions(language="en", beam_size=2),
        )
        for i in range(5)
    ]
    found = []
    for threads in (1, 2):
        model = WhisperRecognizer(DEMO_DIR / "whisper", "cpu", "int8", threads, 8)
        found.append(model.run(items))
        model.close()
    texts = [[hypothesis.text for hypothesis in heard] for heard in found]
    assert texts[0] == texts[1]
    assert len(set(texts[0])) == 5
    starts = [[word.start_s for h in heard for word in h.words or ()] for heard in found]
    assert starts[0] == pytest.approx(starts[1], abs=0.021)
