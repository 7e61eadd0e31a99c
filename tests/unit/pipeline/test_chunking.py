"""Scores -> regions -> chunks, by arithmetic alone."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from app.domain.transcript import SAMPLE_RATE, Chunk, SpeechRegion
from app.models.protocols import SpeechScores
from app.pipeline.chunking import (
    LEAST_GAP_S,
    LEAST_MARGIN_S,
    Chunker,
    ChunkingOptions,
    RegionFinder,
    divide,
    fill_gaps,
)

STEP_S = 0.1
NO_PAUSE_S = 1e9  # too long to end a chunk


def scores(*runs: tuple[float, float]) -> SpeechScores:
    """(score, seconds) after one another."""
    values = np.concatenate([np.full(round(s / STEP_S), score) for score, s in runs])
    return SpeechScores(values.astype(np.float32), 0.0, STEP_S)


def find_regions(
    speech: SpeechScores, onset: float, offset: float, max_region_s: float
) -> list[SpeechRegion]:
    return list(RegionFinder(onset, offset, max_region_s).advance(speech, complete=True))


def chunks_of(
    speech: SpeechScores,
    max_chunk_s: float,
    duration_s: float,
    pieces: list[int],
    max_pause_s: float = NO_PAUSE_S,
    margin_s: float = 0.0,
) -> tuple[list[Chunk], list[int]]:
    """The chunks where scores come in such pieces, and how many frames were known at each."""
    options = ChunkingOptions(0.5, 0.363, max_chunk_s, max_pause_s, margin_s)
    chunker = Chunker(options, duration_s)
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
        for max_pause_s, margin_s in ((NO_PAUSE_S, 0.0), (2.0, 1.0), (0.5, 1.0)):
            chunks, _ = chunks_of(speech, max_chunk_s, duration_s, [], max_pause_s, margin_s)
            assert all(0 < c.end_s - c.start_s <= max_chunk_s + 1e-6 for c in chunks)
            assert all(c.start_s >= 0 and c.end_s <= duration_s for c in chunks)
            assert all(a.end_s <= b.start_s + 1e-9 for a, b in pairwise(chunks))
            heard = [region for c in chunks for region in c.speech]
            longest_s = max_chunk_s - 2 * LEAST_MARGIN_S
            for region in find_regions(speech, 0.5, 0.363, longest_s):
                end_s = min(region.end_s, duration_s)
                assert SpeechRegion(region.start_s, end_s) in heard
            for chunk in chunks:
                assert chunk.start_s <= chunk.speech[0].start_s
                assert chunk.speech[-1].end_s <= chunk.end_s
                for before, after in pairwise(chunk.speech):
                    assert after.start_s - before.end_s <= max_pause_s


def test_silence_that_is_kept_fills_the_gaps() -> None:
    rng = np.random.default_rng(7)
    for _ in range(20):
        speech = random_speech(rng)
        duration_s = 0.03 + 0.017 * len(speech.scores) + rng.random() * 100
        chunks, _ = chunks_of(speech, 30, duration_s, [], 2.0, 1.0)
        filled = list(fill_gaps(chunks, duration_s, 30))
        assert [chunk for chunk in filled if chunk.speech] == chunks
        assert all(chunk.end_s - chunk.start_s <= 30 + 1e-6 for chunk in filled)
        ends_s = [0.0, *(chunk.end_s for chunk in filled)]
        starts_s = [*(chunk.start_s for chunk in filled), duration_s]
        gaps_s = [start_s - end_s for start_s, end_s in zip(starts_s, ends_s, strict=True)]
        assert all(-1e-9 <= gap_s < LEAST_GAP_S for gap_s in gaps_s)


# A second way, which wants all scores at once: what the chunks are held against


def active_spans(values: list[float], onset: float, offset: float) -> list[tuple[int, int]]:
    spans, first = [], None
    for i, value in enumerate(values):
        if first is None and value > onset:
            first = i
        elif first is not None and value < offset:
            spans.append((first, i))
            first = None
    return [*spans, (first, len(values) - 1)] if first is not None else spans


def regions_at_once(speech: SpeechScores, longest_s: float) -> list[tuple[float, float]]:
    regions = []
    max_frames = int(longest_s / speech.step_s)
    for begin, last in active_spans(list(speech.scores), 0.5, 0.363):
        first = begin
        while last - first > max_frames:
            middle = first + max_frames // 2
            cut = middle + int(np.argmin(speech.scores[middle : first + max_frames]))
            regions.append((first, cut))
            first = cut
        if last > first:
            regions.append((first, last))
    return [(speech.at_s(first), speech.at_s(last)) for first, last in regions]


def all_at_once(
    speech: SpeechScores, max_chunk_s: float, duration_s: float, max_pause_s: float, margin_s: float
) -> list[Chunk]:
    longest_s = max_chunk_s - 2 * LEAST_MARGIN_S
    groups: list[list[SpeechRegion]] = []
    for begin_s, last_s in regions_at_once(speech, longest_s):
        region = SpeechRegion(max(0.0, begin_s), min(last_s, duration_s))
        if region.end_s <= region.start_s:
            continue
        joins = (
            groups
            and region.start_s - groups[-1][-1].end_s <= max_pause_s
            and region.end_s - groups[-1][0].start_s <= longest_s
        )
        if joins:
            groups[-1].append(region)
        else:
            groups.append([region])
    chunks = []
    for i, group in enumerate(groups):
        start_s, end_s = group[0].start_s, group[-1].end_s
        before_s = (start_s - groups[i - 1][-1].end_s) / 2 if i else start_s
        after_s = duration_s - end_s
        if i + 1 < len(groups):
            after_s = min(after_s, (groups[i + 1][0].start_s - end_s) / 2)
        room_s = max_chunk_s - (end_s - start_s)
        before_s = max(0.0, min(margin_s, before_s, room_s / 2))
        after_s = max(0.0, min(margin_s, after_s, room_s - before_s))
        chunks.append(Chunk(start_s - before_s, end_s + after_s, tuple(group)))
    return chunks


@pytest.mark.parametrize("max_chunk_s", [2.0, 5.0, 12.5, 30.0])
@pytest.mark.parametrize(("max_pause_s", "margin_s"), [(NO_PAUSE_S, 0.0), (2.0, 1.0), (0.5, 1.0)])
def test_chunks_are_the_same_however_the_scores_come(
    max_chunk_s: float, max_pause_s: float, margin_s: float
) -> None:
    rng = np.random.default_rng(8)
    for _ in range(60):
        speech = random_speech(rng)
        num_frames = len(speech.scores)
        duration_s = float(rng.choice([0.03 + 0.017 * num_frames, 0.016 * num_frames]))
        expected = all_at_once(speech, max_chunk_s, duration_s, max_pause_s, margin_s)
        few = sorted(rng.integers(0, num_frames, 3).tolist())
        for pieces in ([], few, list(range(0, num_frames, 97)), list(range(0, num_frames, 7))):
            found, _ = chunks_of(speech, max_chunk_s, duration_s, pieces, max_pause_s, margin_s)
            assert found == expected


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


def test_a_long_pause_ends_a_chunk_and_its_middle_ends_the_margins() -> None:
    speech = scores((0.1, 3), (0.9, 4), (0.1, 1.5), (0.9, 4), (0.1, 2.5), (0.9, 4), (0.1, 9))
    chunks, _ = chunks_of(speech, 30, 28, [], max_pause_s=2.0, margin_s=2.0)
    assert [(round(c.start_s, 2), round(c.end_s, 2)) for c in chunks] == [(1, 13.75), (13.75, 21)]
    assert [len(c.speech) for c in chunks] == [2, 1]
    assert chunks[0].speech_s == pytest.approx(8.0)


def test_chunks_stay_inside_the_recording() -> None:
    speech = SpeechScores(np.full(60, 0.9, np.float32), -0.2, STEP_S)
    [chunk], _ = chunks_of(speech, 30, 5.0, [])
    assert (chunk.start_s, chunk.end_s) == (0.0, 5.0)


# -- chunks in which something is missing ----------------------------------------------------------


def noise(seconds: float, quiet_from_s: float, quiet_to_s: float) -> np.ndarray:
    samples = np.random.default_rng(1).standard_normal(round(seconds * SAMPLE_RATE))
    samples[round(quiet_from_s * SAMPLE_RATE) : round(quiet_to_s * SAMPLE_RATE)] *= 0.01
    return samples.astype(np.float32)


def test_a_chunk_is_divided_in_the_pause_beside_what_is_missing() -> None:
    speech = tuple(SpeechRegion(s, e) for s, e in [(10, 13), (13.9, 16), (16.5, 19), (20, 22)])
    chunk = Chunk(9.5, 22.5, speech)
    samples = noise(13, 0, 0)
    for missing, at_s in (
        ([], 19.5),  # the longest pause
        ([SpeechRegion(10, 13)], 13.45),
        ([SpeechRegion(16.5, 19)], 19.5),
        ([SpeechRegion(14, 16)], 13.45),
    ):
        divided = divide(chunk, samples, missing)
        assert divided is not None
        before, after = divided
        assert before.end_s == after.start_s == pytest.approx(at_s)
        assert (before.start_s, after.end_s) == (9.5, 22.5)
        assert before.speech + after.speech == speech


def test_a_chunk_without_pauses_is_divided_where_it_is_quietest() -> None:
    chunk = Chunk(100, 120, (SpeechRegion(100.5, 119.5),))
    divided = divide(chunk, noise(20, 12.0, 12.2), [])
    assert divided is not None
    assert divided[0].end_s == pytest.approx(112.1, abs=0.1)
    assert divided[0].speech == (SpeechRegion(100.5, divided[0].end_s),)
    assert divided[1].speech == (SpeechRegion(divided[0].end_s, 119.5),)


def test_what_is_too_short_is_not_divided() -> None:
    assert divide(Chunk(0, 2.5, (SpeechRegion(0.2, 2.4),)), noise(2.5, 1, 1.1), []) is None
