"""One chunk on its way to text: decoded, decoded again where that fails, divided where speech is
missing.

Whisper ends a chunk early now and then, says once what was said six times, or has no tokens left.
Two halves of such a chunk, cut in a pause, are decoded again; whichever heard more is taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeAlias

from app.audio.chunking import divide
from app.batching import Batcher, TaskFuture, Work
from app.hypotheses import (
    TEMPERATURES,
    best_hypothesis,
    is_credible,
    is_silence,
    missing_speech,
    needs_fallback,
    num_letters,
    repeats_itself,
)
from app.models.protocols import RecognitionItem, Recognizer
from app.transcript import (
    SAMPLE_RATE,
    Chunk,
    DecodingOptions,
    Hypothesis,
    Samples,
    SpeechRegion,
)

Heard: TypeAlias = tuple[Chunk, Hypothesis]

MAX_DIVISIONS = 3
HEARD_MORE = 1.1  # as a share of the letters: below it, halves are no better than the whole


class ChunkDecoding:
    """Advances by what is done; never waits."""

    def __init__(
        self,
        chunk: Chunk,
        samples: Samples,
        options: DecodingOptions,
        recognizer: Batcher[Recognizer],
        work: Work,
        future: TaskFuture | None = None,
        depth: int = 0,
    ) -> None:
        """`future`: of its first hypothesis, where that is under way. `depth`: of divisions."""
        self.chunk = chunk
        self.heard: tuple[Heard, ...] | None = None  # known once all is decoded
        self._samples = samples
        self._options = options
        self._recognizer = recognizer
        self._work = work
        self._depth = depth
        self._tried: list[Hypothesis] = []
        self._whole: tuple[Heard, ...] = ()  # what was heard before it was divided
        self._halves: tuple[ChunkDecoding, ...] = ()
        # where no speech was found, nothing is believed that needs a second try
        only_one = bool(options.temperature) or not chunk.speech
        self._temperatures = iter((options.temperature,) if only_one else TEMPERATURES)
        self._future: TaskFuture | None = future
        temperature = next(self._temperatures)
        if future is None:
            self._future = self._submit(temperature, first=depth > 0)

    @property
    def pending(self) -> Iterator[TaskFuture]:
        """What it waits for."""
        if self._future is not None:
            yield self._future
        for half in self._halves:
            yield from half.pending

    def advance(self) -> None:
        """Go on as far as possible.

        Raises:
            ServiceError: recognition failed, or the work was cancelled.
        """
        while self._future is not None and self._future.done():
            future, self._future = self._future, None
            self._consider(self._work.wait(future))
        for half in self._halves:
            half.advance()
        if self._halves and self.heard is None:
            self._compare()

    def _consider(self, hypothesis: Hypothesis) -> None:
        self._tried.append(hypothesis)
        # what runs in circles ends more often on half of the sound than at a higher temperature
        if repeats_itself(hypothesis) and self._divide(hypothesis, []):
            return
        if needs_fallback(hypothesis):
            temperature = next(self._temperatures, None)
            if temperature is not None:
                # all that follows waits for this chunk
                self._future = self._submit(temperature, first=True)
                return
            hypothesis = best_hypothesis(self._tried)
        missing = missing_speech(self.chunk, hypothesis)
        is_whole = not missing and not hypothesis.is_cut_off
        if is_whole or is_silence(hypothesis) or not self._divide(hypothesis, missing):
            self.heard = self._credible(hypothesis)

    def _credible(self, hypothesis: Hypothesis) -> tuple[Heard, ...]:
        return ((self.chunk, hypothesis),) if is_credible(self.chunk, hypothesis) else ()

    def _divide(self, hypothesis: Hypothesis, missing: Sequence[SpeechRegion]) -> bool:
        """Decode halves, if it can be divided; the hypothesis stands if they are no better."""
        if self._depth == MAX_DIVISIONS or not self.chunk.speech:
            return False
        divided = divide(self.chunk, self._samples, missing)
        if divided is None:
            return False
        self._whole = self._credible(hypothesis)
        self._halves = tuple(map(self._half, divided))
        return True

    def _half(self, part: Chunk) -> ChunkDecoding:
        begin = round((part.start_s - self.chunk.start_s) * SAMPLE_RATE)
        end = round((part.end_s - self.chunk.start_s) * SAMPLE_RATE)
        samples = self._samples[begin:end]
        return ChunkDecoding(
            part,
            samples,
            self._options,
            self._recognizer,
            self._work,
            depth=self._depth + 1,
        )

    def _compare(self) -> None:
        halves = [half.heard for half in self._halves]
        if None in halves:
            return
        together = tuple(heard for half in halves for heard in half or ())
        more = _num_letters(together) > HEARD_MORE * _num_letters(self._whole)
        self.heard = together if more else self._whole

    def _submit(self, temperature: float, first: bool) -> TaskFuture:
        options = replace(self._options, temperature=temperature)
        item = RecognitionItem(self._samples, options, self.chunk.speech_s)
        [future] = self._work.submit(self._recognizer, [item], first=first)
        return future


def _num_letters(heard: Iterable[Heard]) -> float:
    """Of what does not repeat itself."""
    return sum(
        num_letters(hypothesis.text) for _, hypothesis in heard if not repeats_itself(hypothesis)
    )
