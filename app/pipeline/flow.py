"""The chunks of one request, recognized, aligned and passed to its listener in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from queue import SimpleQueue
from typing import TypeAlias

from app.domain.options import DecodingOptions, Task, TranscribeOptions
from app.domain.transcript import SAMPLE_RATE, Audio, Chunk, Hypothesis, Samples, Segment
from app.domain.warnings import TranscriptWarning
from app.engine.tasks import TaskFuture
from app.engine.work import Work
from app.models.leases import LeasedAligner, LeasedRecognizer
from app.models.protocols import Aligned, AlignmentItem
from app.pipeline.aligners import Aligners
from app.pipeline.decoding import ChunkDecoding, ChunkSource, Heard
from app.pipeline.optional_stages import optional_stage
from app.text.segments import segments_of, without_times

Aligning: TypeAlias = tuple[Segment, TaskFuture[Aligned] | None]  # None: there is no aligner

RECOGNIZED = 0.7  # the progress of a request after recognition, as a share of its time


@dataclass(frozen=True, slots=True)
class Listener:
    """Hears of a transcript as it grows: in the thread that transcribes, in order.

    `recognized`: a part of a chunk, as soon as the chunk is recognized. `settled`: a segment that
    will not change any more; with speakers, all of them come at the end.
    """

    recognized: Callable[[Segment], None] = lambda segment: None
    settled: Callable[[Segment], None] = lambda segment: None

    def of_text(self) -> Listener:
        """This listener without `settled`, for the time before speakers are known."""
        return Listener(recognized=self.recognized)


NOBODY = Listener()


@dataclass(frozen=True, slots=True)
class TranscriptionRequest:
    """One call of `transcribe`. Only `warnings` grows."""

    audio: Audio
    options: TranscribeOptions
    work: Work
    listener: Listener
    warnings: list[TranscriptWarning]


class Flow:
    """Takes the chunks of one request through recognition and alignment, in order."""

    def __init__(
        self,
        request: TranscriptionRequest,
        recognizer: LeasedRecognizer,
        aligners: Aligners,
        decoding: DecodingOptions,
        strict: bool,
    ) -> None:
        """`strict`: a failed alignment fails the request."""
        self.segments: list[Segment] = []
        self.aligning_since: float | None = None
        self._request = request
        self._recognizer = recognizer
        self._aligners = aligners
        self._decoding = decoding
        self._strict = strict
        self._num_chunks = 0
        self._recognizing: dict[int, ChunkDecoding] = {}  # by number, in order
        self._woken: SimpleQueue[int] = SimpleQueue()  # numbers of chunks that can advance
        self._aligning: deque[Aligning] = deque()

    def recognize(
        self,
        chunk: Chunk,
        future: TaskFuture[Hypothesis] | None = None,
        language: str | None = None,
    ) -> None:
        """`future`: of its hypothesis, if that is under way. `language`: of this chunk, if chunks
        may differ.
        """
        samples = slice_audio(self._request.audio, chunk.start_s, chunk.end_s)
        options = replace(self._decoding, language=language or self._decoding.language)
        hurry, context = self._request.options.hurry, self._left_context(chunk)
        source = ChunkSource(self._recognizer, self._request.work, options, hurry, context)
        self._num_chunks += 1
        wake = partial(self._woken.put, self._num_chunks)
        decoding = ChunkDecoding(chunk, samples, source, wake, future)
        self._recognizing[self._num_chunks] = decoding

    def _left_context(self, chunk: Chunk) -> tuple[Samples, ...]:
        """Of the first chunk, up to its start: the pause before it shows where it begins. The
        words of a translation are not timed well enough to be told from those of its context.
        """
        before = self._request.options.left_context
        if not before or self._num_chunks or self._decoding.task is Task.TRANSLATE:
            return ()
        return (*before, slice_audio(self._request.audio, 0.0, chunk.start_s))

    def settle(self, wait: bool) -> None:
        """Take what is recognized further; `wait`: until everything is recognized."""
        while self._recognizing:
            while not self._woken.empty():
                self._advance(self._woken.get_nowait())
            self._take_heard()
            self._collect(_done(self._aligning))
            if not wait:
                return
            if self._recognizing:
                self._wait()

    def _wait(self) -> None:
        """Wait for a hypothesis, or for the end of the request, which cancels them all."""
        self._advance(self._request.work.next_of(self._woken))

    def _advance(self, number: int) -> None:
        if decoding := self._recognizing.get(number):
            decoding.advance()

    def _take_heard(self) -> None:
        """In order, up to the first chunk that is not complete."""
        while self._recognizing:
            number, decoding = next(iter(self._recognizing.items()))
            if decoding.heard is None:
                return
            del self._recognizing[number]
            self._take(decoding.chunk, decoding.heard)

    def finish(self) -> None:
        self._collect(self._aligning)

    def _take(self, chunk: Chunk, heard: Iterable[Heard]) -> None:
        work = self._request.work
        share = chunk.end_s / self._request.audio.duration_s
        work.progress = max(work.progress, RECOGNIZED * share)
        for part, hypothesis in heard:
            aligner = self._aligners.of(hypothesis.language)
            if aligner is None and hypothesis.words is None:
                self._request.warnings.append(TranscriptWarning.NO_WORD_TIMES)
            language = hypothesis.language
            if self._decoding.task is Task.TRANSLATE:
                language = "en"
            for segment in segments_of(part, hypothesis, language, with_words=aligner is None):
                told = hypothesis.language if self._request.options.multilingual else None
                self._align(replace(self._aligners.words(segment), language=told), aligner)

    def _align(self, segment: Segment, aligner: LeasedAligner | None) -> None:
        task = None
        if aligner is not None:
            samples = slice_audio(self._request.audio, segment.start_s, segment.end_s)
            item = AlignmentItem(samples, segment)
            [task] = self._request.work.submit(aligner.batcher, [item])
            if self.aligning_since is None:
                self.aligning_since = task.queued
        self._aligning.append((segment, task))
        self._request.listener.recognized(segment)

    def _collect(self, aligning: Iterable[Aligning]) -> None:
        request = self._request
        for segment in self._aligned(aligning):
            self.segments.append(segment)
            request.listener.settled(segment)

    def _aligned(self, aligning: Iterable[Aligning]) -> Iterator[Segment]:
        warnings = self._request.warnings
        for segment, future in aligning:
            sentences: tuple[Segment, ...] | None = None
            if future is None:
                yield segment
                continue
            with optional_stage(
                TranscriptWarning.ALIGNMENT_FAILED,
                TranscriptWarning.ALIGNMENT_FAILED,
                warnings,
                self._strict,
            ):
                sentences = self._request.work.wait(future)
                if sentences is None:
                    warnings.append(TranscriptWarning.ALIGNMENT_FAILED)
            yield from sentences or (without_times(segment),)


def _done(aligning: deque[Aligning]) -> Iterator[Aligning]:
    """Take out what is ready, in order."""
    while aligning and (aligning[0][1] is None or aligning[0][1].done()):
        yield aligning.popleft()


def slice_audio(audio: Audio, start_s: float, end_s: float) -> Samples:
    return audio.samples[round(start_s * SAMPLE_RATE) : round(end_s * SAMPLE_RATE)]
