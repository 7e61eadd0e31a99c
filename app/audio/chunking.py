"""Speech scores -> SpeechRegions -> Chunks. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from app.transcript import Chunk, SpeechRegion


@dataclass(frozen=True, slots=True)
class SpeechScores:
    """How sure the detector is of speech, frame by frame: float32 (num_frames,), 0 to 1.

    The middle of frame `i` lies at `first_s + i * step_s`.
    """

    scores: npt.NDArray[np.float32]
    first_s: float
    step_s: float


def find_regions(
    speech: SpeechScores, onset: float, offset: float, max_region_s: float
) -> list[SpeechRegion]:
    """The regions whose score rises over `onset` until it falls below `offset`.

    A region longer than `max_region_s` is cut where the score is lowest in its second half: the
    "min-cut" of WhisperX. Source: Bain et al. 2023, https://arxiv.org/abs/2303.00747, section 3.1.
    """
    regions: list[SpeechRegion] = []
    for first, last in _active_spans(speech.scores, onset, offset):
        for begin, end in _cut(speech.scores, first, last, int(max_region_s / speech.step_s)):
            regions.append(
                SpeechRegion(
                    speech.first_s + begin * speech.step_s, speech.first_s + end * speech.step_s
                )
            )
    return regions


def _active_spans(
    scores: npt.NDArray[np.float32], onset: float, offset: float
) -> Iterable[tuple[int, int]]:
    """Hysteresis: (first frame over `onset`, next frame under `offset` or the last frame)."""
    if len(scores) == 0:
        return
    marks = np.zeros(len(scores), np.int8)
    marks[scores > onset] = 1
    marks[scores < min(onset, offset)] = -1
    decided = np.flatnonzero(marks)  # every other frame keeps the state before it
    state = marks[decided]
    changes = np.flatnonzero(np.diff(state, prepend=-1))
    starts = decided[changes[state[changes] == 1]]
    ends = decided[changes[state[changes] == -1]]
    for i, start in enumerate(starts):
        yield int(start), int(ends[i]) if i < len(ends) else len(scores) - 1


def _cut(
    scores: npt.NDArray[np.float32], first: int, last: int, max_frames: int
) -> Iterable[tuple[int, int]]:
    while last - first > max_frames:
        middle = first + max_frames // 2
        at = middle + int(np.argmin(scores[middle : first + max_frames]))
        yield first, at
        first = at
    if last > first:
        yield first, last


def chunk_regions(
    regions: Sequence[SpeechRegion], max_chunk_s: float, duration_s: float
) -> list[Chunk]:
    """Pack consecutive regions into chunks of at most `max_chunk_s`, inside the recording."""
    chunks: list[Chunk] = []
    start_s: float | None = None
    end_s = 0.0
    for region in regions:
        region_end_s = min(region.end_s, duration_s)
        if start_s is not None and region_end_s - start_s > max_chunk_s:
            chunks.append(Chunk(start_s, end_s))
            start_s = None
        if start_s is None:
            start_s = max(0.0, region.start_s)
        end_s = region_end_s
    if start_s is not None:
        chunks.append(Chunk(start_s, end_s))
    return [chunk for chunk in chunks if chunk.end_s > chunk.start_s]
