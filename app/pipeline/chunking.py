"""Turns speech scores into SpeechRegions and Chunks as the scores arrive. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from app.domain.options import SpeechDetection
from app.domain.transcript import SAMPLE_RATE, Chunk, Samples, SpeechRegion
from app.models.protocols import SpeechScores

LEAST_MARGIN_S = 0.2
LEAST_GAP_S = 0.3


@dataclass(frozen=True, slots=True)
class ChunkingOptions:
    """`onset`, `offset`: the scores at which speech begins and ends. Regions closer together than
    `max_pause_s` share a chunk of at most `max_chunk_s`. Chunks include `margin_s` around speech.
    `keep_silence`: what lies between these chunks comes in chunks without speech.
    """

    onset: float
    offset: float
    max_chunk_s: float
    max_pause_s: float = 8.0
    margin_s: float = 1.0
    keep_silence: bool = False

    def for_request(self, speech: SpeechDetection) -> ChunkingOptions:
        """These options, except for what a request asks for."""
        onset = self.onset if speech.onset is None else speech.onset
        offset = self.offset if speech.offset is None else speech.offset
        return replace(self, onset=onset, offset=offset, keep_silence=speech.keep_silence)


class Chunker:
    """Yields each chunk as soon as it is certain. The size of the pieces in which scores arrive
    does not change the chunks.

    A margin ends in the middle of the pause to the next chunk or earlier, so nothing is heard
    twice.
    """

    def __init__(self, options: ChunkingOptions, duration_s: float) -> None:
        # keeps room for margins around the longest chunks
        self._max_speech_s = options.max_chunk_s - 2 * LEAST_MARGIN_S
        self._options = options
        self._duration_s = duration_s
        self._regions = RegionFinder(options.onset, options.offset, self._max_speech_s)
        self._speech: list[SpeechRegion] = []  # of the open chunk
        self._closed_s = 0.0  # where the speech of the previous chunk ends

    def advance(self, speech: SpeechScores, complete: bool) -> Iterator[Chunk]:
        """The new chunks. `speech`: all scores so far; `complete`: no more will come."""
        for region in self._regions.advance(speech, complete):
            clipped = SpeechRegion(max(0.0, region.start_s), min(region.end_s, self._duration_s))
            if clipped.end_s > clipped.start_s:
                yield from self._add(clipped)
        least_start_s = speech.at_s(self._regions.least_start)
        least_end_s = speech.at_s(self._regions.least_end)
        if complete:
            yield from self._close(None)
        elif self._is_over(least_start_s, least_end_s) and self._has_margin(least_start_s):
            yield from self._close(least_start_s)

    def _add(self, region: SpeechRegion) -> Iterator[Chunk]:
        if self._is_over(region.start_s, region.end_s):
            yield from self._close(region.start_s)
        self._speech.append(region)

    def _is_over(self, start_s: float, end_s: float) -> bool:
        """Whether a region that begins and ends there, or later, no longer fits the open chunk."""
        if not self._speech:
            return False
        too_late = start_s - self._speech[-1].end_s > self._options.max_pause_s
        return too_late or min(end_s, self._duration_s) - self._first_s > self._max_speech_s

    @property
    def _first_s(self) -> float:
        return self._speech[0].start_s

    def _has_margin(self, least_start_s: float) -> bool:
        """Whether the margin no longer depends on where the next region begins."""
        known_s = least_start_s - self._speech[-1].end_s
        return self._regions.within_region or known_s >= 2 * self._options.margin_s

    def _close(self, next_s: float | None) -> Iterator[Chunk]:
        """The open chunk. `next_s`: where the next region begins, None if there is none."""
        if not self._speech:
            return
        start_s, end_s = self._speech[0].start_s, self._speech[-1].end_s
        room_s = self._options.max_chunk_s - (end_s - start_s)
        margin_s = self._options.margin_s
        before_s = start_s if not self._closed_s else (start_s - self._closed_s) / 2
        after_s = self._duration_s - end_s
        if next_s is not None and next_s < self._duration_s:
            after_s = min(after_s, (next_s - end_s) / 2)
        before_s = min(margin_s, before_s, room_s / 2)
        after_s = min(margin_s, after_s, room_s - before_s)
        yield Chunk(start_s - max(0.0, before_s), end_s + max(0.0, after_s), tuple(self._speech))
        self._closed_s = end_s
        self._speech = []


def fill_gaps(chunks: Iterable[Chunk], duration_s: float, max_chunk_s: float) -> Iterator[Chunk]:
    """The chunks, and between them those of the silence, which have no speech: all the recording
    but for gaps too short for a word.
    """
    at_s = 0.0
    for chunk in chunks:
        yield from _silence(at_s, chunk.start_s, max_chunk_s)
        yield chunk
        at_s = chunk.end_s
    yield from _silence(at_s, duration_s, max_chunk_s)


def _silence(start_s: float, end_s: float, max_chunk_s: float) -> Iterator[Chunk]:
    length_s = end_s - start_s
    if length_s < LEAST_GAP_S:
        return
    num = math.ceil(length_s / max_chunk_s)
    for i in range(num):
        yield Chunk(start_s + length_s * i / num, start_s + length_s * (i + 1) / num)


def join_chunks(chunks: Sequence[Chunk], options: ChunkingOptions) -> list[Chunk]:
    """The chunks, with neighbors joined as far as pauses and lengths allow."""
    joined: list[Chunk] = []
    for chunk in chunks:
        last = joined[-1] if joined else None
        fits = (
            last is not None
            and last.speech
            and chunk.speech
            and chunk.speech[0].start_s - last.speech[-1].end_s <= options.max_pause_s
            and chunk.end_s - last.start_s <= options.max_chunk_s
        )
        if last is not None and fits:
            joined[-1] = Chunk(last.start_s, chunk.end_s, last.speech + chunk.speech)
        else:
            joined.append(chunk)
    return joined


class RegionFinder:
    """Finds the regions from where the score exceeds `onset` until it falls below `offset`.

    A region longer than `max_region_s` is cut where the score is lowest in its second half: the
    "min-cut" of WhisperX. Source: Bain et al. 2023, https://arxiv.org/abs/2303.00747, section 3.1.
    """

    def __init__(self, onset: float, offset: float, max_region_s: float) -> None:
        self._onset = onset
        self._limit = min(onset, offset)
        self._max_region_s = max_region_s
        self._at = 0  # the next frame to look at
        self._first: int | None = None  # of the open region
        # no future region begins, or ends, before these frames
        self.least_start = 0
        self.least_end = 0

    @property
    def within_region(self) -> bool:
        """Whether the next region has already begun, at `least_start`."""
        return self._first is not None

    def advance(self, speech: SpeechScores, complete: bool) -> Iterator[SpeechRegion]:
        """The new regions. `speech`: all scores so far; `complete`: no more will come."""
        max_frames = int(self._max_region_s / speech.step_s)
        for begin, end in self._spans(speech.scores, max_frames, complete):
            if end > begin:
                yield SpeechRegion(speech.at_s(begin), speech.at_s(end))
        self.least_start = self.least_end = len(speech.scores)
        if self._first is not None:  # it may still be cut in its second half
            self.least_start = self._first
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
        """The first marked frame, if any. `marks` begin with the next frame to look at."""
        return self._at + int(np.argmax(marks)) if marks.any() else None


# -- dividing a chunk ------------------------------------------------------------------------------

LEAST_PAUSE_S = 0.1
LEAST_DIVISIBLE_S = 3.0
FRAME_SAMPLES = SAMPLE_RATE // 20


def divide(
    chunk: Chunk, samples: Samples, missing: Sequence[SpeechRegion]
) -> tuple[Chunk, Chunk] | None:
    """The chunk, cut in two: in a pause beside `missing` speech, else in the longest pause, else at
    the quietest point in the middle. None if the chunk is too short for that.

    `samples`: float32 (num_samples,), of the chunk.
    """
    pauses = [
        SpeechRegion(before.end_s, after.start_s)
        for before, after in pairwise(chunk.speech)
        if after.start_s - before.end_s >= LEAST_PAUSE_S
    ]
    if pauses:
        pause = max(pauses, key=lambda p: (_adjoins(p, missing), p.end_s - p.start_s))
        return _cut(chunk, (pause.start_s + pause.end_s) / 2)
    if chunk.end_s - chunk.start_s < LEAST_DIVISIBLE_S:
        return None
    return _cut(chunk, chunk.start_s + _quietest_s(samples))


def _adjoins(pause: SpeechRegion, missing: Sequence[SpeechRegion]) -> bool:
    return any(
        min(abs(m.start_s - pause.end_s), abs(m.end_s - pause.start_s)) < LEAST_PAUSE_S
        for m in missing
    )


def _cut(chunk: Chunk, at_s: float) -> tuple[Chunk, Chunk]:
    before = [replace(r, end_s=min(r.end_s, at_s)) for r in chunk.speech if r.start_s < at_s]
    after = [replace(r, start_s=max(r.start_s, at_s)) for r in chunk.speech if r.end_s > at_s]
    return Chunk(chunk.start_s, at_s, tuple(before)), Chunk(at_s, chunk.end_s, tuple(after))


def _quietest_s(samples: Samples) -> float:
    """The middle, in seconds, of the quietest frame in the middle half."""
    num_frames = len(samples) // FRAME_SAMPLES
    frames = samples[: num_frames * FRAME_SAMPLES].reshape(num_frames, FRAME_SAMPLES)
    energy = np.square(frames).sum(axis=1)
    first = num_frames // 4
    quietest = first + int(np.argmin(energy[first : num_frames - first]))
    return (quietest + 0.5) * FRAME_SAMPLES / SAMPLE_RATE
