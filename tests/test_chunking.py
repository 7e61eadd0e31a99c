"""Scores -> regions -> chunks, by arithmetic alone."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from app.audio.chunking import Chunker, RegionFinder, SpeechScores
from app.transcript import Chunk, SpeechRegion

STEP_S = 0.1


def scores(*runs: tuple[float, float]) -> SpeechScores:
    """(score, seconds) after one another."""
    values = np.concatenate([np.full(round(s / STEP_S), score) for score, s in runs])
    return SpeechScores(values.astype(np.float32), 0.0, STEP_S)


def find_regions(
    speech: SpeechScores, onset: float, offset: float, max_region_s: float
) -> list[SpeechRegion]:
    return list(RegionFinder(onset, offset, max_region_s).advance(speech, complete=True))


def chunks_of(
    speech: SpeechScores, max_chunk_s: float, duration_s: float, pieces: list[int]
) -> tuple[list[Chunk], list[int]]:
    """The chunks where scores come in such pieces, and how many frames were known at each."""
    chunker = Chunker(0.5, 0.363, max_chunk_s, duration_s)
    chunks, known = [], []
    for num_frames in [*pieces, len(speech.scores)]:
        so_far = SpeechScores(speech.scores[:num_frames], speech.first_s, speech.step_s)
        for chunk in chunker.advance(so_far, complete=num_frames == len(speech.scores)):
            chunks.append(chunk)
            known.append(num_frames)
    return chunks, known


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


def random_speech(rng: np.random.Generator) -> SpeechScores:
    values = np.repeat(rng.random(200), rng.integers(1, 120, 200)).astype(np.float32)
    return SpeechScores(values, 0.03, 0.017)


@pytest.mark.parametrize("max_chunk_s", [5.0, 12.5, 30.0])
def test_chunks_cover_all_speech_and_never_exceed_the_limit(max_chunk_s: float) -> None:
    rng = np.random.default_rng(7)
    for _ in range(50):
        speech = random_speech(rng)
        duration_s = 0.03 + 0.017 * len(speech.scores)
        chunks, _ = chunks_of(speech, max_chunk_s, duration_s, [])
        assert all(0 < c.end_s - c.start_s <= max_chunk_s + 1e-6 for c in chunks)
        assert all(a.end_s <= b.start_s + 1e-9 for a, b in pairwise(chunks))
        for region in find_regions(speech, 0.5, 0.363, max_chunk_s):
            assert any(
                c.start_s <= region.start_s and min(region.end_s, duration_s) <= c.end_s
                for c in chunks
            )


# whisperx's way, which wants all scores at once: what the chunks are held against


def active_spans(values: list[float], onset: float, offset: float) -> list[tuple[int, int]]:
    spans, first = [], None
    for i, value in enumerate(values):
        if first is None and value > onset:
            first = i
        elif first is not None and value < offset:
            spans.append((first, i))
            first = None
    return [*spans, (first, len(values) - 1)] if first is not None else spans


def all_at_once(speech: SpeechScores, max_chunk_s: float, duration_s: float) -> list[Chunk]:
    regions = []
    max_frames = int(max_chunk_s / speech.step_s)
    for begin, last in active_spans(list(speech.scores), 0.5, 0.363):
        first = begin
        while last - first > max_frames:
            middle = first + max_frames // 2
            cut = middle + int(np.argmin(speech.scores[middle : first + max_frames]))
            regions.append((first, cut))
            first = cut
        if last > first:
            regions.append((first, last))
    chunks: list[Chunk] = []
    for first, last in regions:
        start_s, end_s = speech.at_s(first), min(speech.at_s(last), duration_s)
        if chunks and end_s - chunks[-1].start_s <= max_chunk_s:
            chunks[-1] = Chunk(chunks[-1].start_s, end_s)
        else:
            chunks.append(Chunk(max(0.0, start_s), end_s))
    return [chunk for chunk in chunks if chunk.end_s > chunk.start_s]


@pytest.mark.parametrize("max_chunk_s", [2.0, 5.0, 12.5, 30.0])
def test_chunks_are_the_same_however_the_scores_come(max_chunk_s: float) -> None:
    rng = np.random.default_rng(8)
    for _ in range(60):
        speech = random_speech(rng)
        num_frames = len(speech.scores)
        duration_s = float(rng.choice([0.03 + 0.017 * num_frames, 0.016 * num_frames]))
        expected = all_at_once(speech, max_chunk_s, duration_s)
        few = sorted(rng.integers(0, num_frames, 3).tolist())
        for pieces in ([], few, list(range(0, num_frames, 97)), list(range(0, num_frames, 7))):
            assert chunks_of(speech, max_chunk_s, duration_s, pieces)[0] == expected


def test_a_chunk_is_there_before_all_is_heard() -> None:
    speech = scores(*[(0.9, 4.0), (0.1, 1.0)] * 60)
    chunks, known = chunks_of(speech, 30, 300, list(range(0, 3000, 10)))
    assert len(chunks) == 10
    for chunk, num_frames in zip(chunks[:-1], known[:-1], strict=True):
        assert num_frames * STEP_S <= chunk.start_s + 30 + 1.1


def test_regions_are_packed_into_as_few_chunks_as_fit() -> None:
    speech = scores(
        (0.9, 4.0), (0.1, 6.0), (0.9, 4.0), (0.1, 6.0), (0.9, 4.0), (0.1, 7.0), (0.9, 4)
    )
    chunks, _ = chunks_of(speech, 30, 100, [])
    assert [(round(c.start_s, 1), round(c.end_s, 1)) for c in chunks] == [(0, 24), (31, 34.9)]


def test_chunks_stay_inside_the_recording() -> None:
    speech = SpeechScores(np.full(60, 0.9, np.float32), -0.2, STEP_S)
    [chunk], _ = chunks_of(speech, 30, 5.0, [])
    assert (chunk.start_s, chunk.end_s) == (0.0, 5.0)
