"""Scores -> regions -> chunks, by arithmetic alone."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from app.audio.chunking import SpeechScores, chunk_regions, find_regions
from app.transcript import SpeechRegion

STEP_S = 0.1


def scores(*runs: tuple[float, float]) -> SpeechScores:
    """(score, seconds) after one another."""
    values = np.concatenate([np.full(round(s / STEP_S), score) for score, s in runs])
    return SpeechScores(values.astype(np.float32), 0.0, STEP_S)


def spans(regions: list[SpeechRegion]) -> list[tuple[float, float]]:
    return [(round(r.start_s, 3), round(r.end_s, 3)) for r in regions]


def test_speech_begins_over_onset_and_ends_under_offset() -> None:
    speech = scores((0.1, 1), (0.6, 1), (0.4, 1), (0.2, 1), (0.4, 1), (0.9, 1))
    assert spans(find_regions(speech, 0.5, 0.3, 30)) == [(1.0, 3.0), (5.0, 5.9)]


def test_no_speech_no_regions() -> None:
    assert find_regions(scores((0.49, 10)), 0.5, 0.3, 30) == []
    assert find_regions(SpeechScores(np.zeros(0, np.float32), 0.0, STEP_S), 0.5, 0.3, 30) == []


def test_a_long_region_is_cut_where_it_is_quietest() -> None:
    speech = scores((0.9, 22), (0.6, 0.1), (0.9, 20))
    first, second = find_regions(speech, 0.5, 0.3, 30)
    assert first.end_s == pytest.approx(22.0)
    assert second.start_s == first.end_s


@pytest.mark.parametrize("max_chunk_s", [5.0, 12.5, 30.0])
def test_chunks_cover_all_speech_and_never_exceed_the_limit(max_chunk_s: float) -> None:
    rng = np.random.default_rng(7)
    for _ in range(50):
        values = np.repeat(rng.random(200), rng.integers(1, 120, 200)).astype(np.float32)
        speech = SpeechScores(values, 0.03, 0.017)
        duration_s = 0.03 + 0.017 * len(values)
        regions = find_regions(speech, 0.5, 0.363, max_chunk_s)
        chunks = chunk_regions(regions, max_chunk_s, duration_s)
        assert all(0 < c.end_s - c.start_s <= max_chunk_s + 1e-6 for c in chunks)
        assert all(a.end_s <= b.start_s + 1e-9 for a, b in pairwise(chunks))
        for region in regions:
            assert any(
                c.start_s <= region.start_s and min(region.end_s, duration_s) <= c.end_s
                for c in chunks
            )


def test_regions_are_packed_into_as_few_chunks_as_fit() -> None:
    regions = [SpeechRegion(s, s + 4.0) for s in (0.0, 10.0, 20.0, 31.0)]
    chunks = chunk_regions(regions, 30, 100)
    assert [(c.start_s, c.end_s) for c in chunks] == [(0.0, 24.0), (31.0, 35.0)]


def test_chunks_stay_inside_the_recording() -> None:
    [chunk] = chunk_regions([SpeechRegion(-0.2, 5.1)], 30, 5.0)
    assert (chunk.start_s, chunk.end_s) == (0.0, 5.0)
