"""Speech scores -> SpeechRegions -> Chunks, as the scores come in. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Iterator
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

    def at_s(self, frame: int) -> float:
        return self.first_s + frame * self.step_s


class Chunker:
    """Chunks of at most `max_chunk_s`, inside the recording, each as soon as it is certain: the
    same ones, whatever the pieces in which the scores come.
    """

    def __init__(self, onset: float, offset: float, max_chunk_s: float, duration_s: float) -> None:
        self._regions = RegionFinder(onset, offset, max_chunk_s)
        self._max_chunk_s = max_chunk_s
        self._duration_s = duration_s
        self._start_s: float | None = None  # of the chunk that is being filled
        self._end_s = 0.0

    def advance(self, speech: SpeechScores, complete: bool) -> Iterator[Chunk]:
        """`speech`: all that is known so far; `complete`: there is no more."""
        for region in self._regions.advance(speech, complete):
            yield from self._add(region)
        least_end_s = speech.at_s(self._regions.least_end)
        if complete or self._is_over(least_end_s):
            yield from self._close()

    def _add(self, region: SpeechRegion) -> Iterator[Chunk]:
        if self._is_over(region.end_s):
            yield from self._close()
        if self._start_s is None:
            self._start_s = max(0.0, region.start_s)
        self._end_s = min(region.end_s, self._duration_s)

    def _is_over(self, end_s: float) -> bool:
        """Whether a region that ends there does not fit any more."""
        if self._start_s is None:
            return False
        return min(end_s, self._duration_s) - self._start_s > self._max_chunk_s

    def _close(self) -> Iterator[Chunk]:
        if self._start_s is not None and self._end_s > self._start_s:
            yield Chunk(self._start_s, self._end_s)
        self._start_s = None


class RegionFinder:
    """The regions whose score rises over `onset` until it falls below `offset`.

    A region longer than `max_region_s` is cut where the score is lowest in its second half: the
    "min-cut" of WhisperX. Source: Bain et al. 2023, https://arxiv.org/abs/2303.00747, section 3.1.
    """

    def __init__(self, onset: float, offset: float, max_region_s: float) -> None:
        self._onset = onset
        self._limit = min(onset, offset)
        self._max_region_s = max_region_s
        self._at = 0  # the next frame to look at
        self._first: int | None = None  # of the region that goes on
        self.least_end = 0  # no region that is still to come ends before this frame

    def advance(self, speech: SpeechScores, complete: bool) -> Iterator[SpeechRegion]:
        """`speech`: all that is known so far; `complete`: there is no more."""
        max_frames = int(self._max_region_s / speech.step_s)
        for begin, end in self._spans(speech.scores, max_frames, complete):
            if end > begin:
                yield SpeechRegion(speech.at_s(begin), speech.at_s(end))
        self.least_end = len(speech.scores)
        if self._first is not None:  # it may yet be cut, in its second half
            self.least_end = min(self.least_end, self._first + max_frames // 2)

    def _spans(
        self, scores: npt.NDArray[np.float32], max_frames: int, complete: bool
    ) -> Iterator[tuple[int, int]]:
        num_frames = len(scores)
        while self._at < num_frames:
            if self._first is None:
                self._first = self._next(scores[self._at :] > self._onset)
                self._at = num_frames if self._first is None else self._first + 1
                continue
            longest = self._first + max_frames
            end = self._next(scores[self._at : longest + 1] < self._limit)
            if end is not None:
                yield self._first, end
                self._first, self._at = None, end + 1
            elif num_frames > longest + 1:
                middle = self._first + max_frames // 2
                cut = middle + int(np.argmin(scores[middle:longest]))
                yield self._first, cut
                self._first, self._at = cut, longest + 1
            else:
                self._at = num_frames
        if complete and self._first is not None:
            yield self._first, num_frames - 1
            self._first = None

    def _next(self, marks: npt.NDArray[np.bool_]) -> int | None:
        """The first marked frame; `marks` begin with the next one to look at."""
        return self._at + int(np.argmax(marks)) if marks.any() else None
