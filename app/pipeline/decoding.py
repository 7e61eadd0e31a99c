"""One chunk on its way to text: decoded, decoded again where that fails, divided where speech is
missing.

Whisper ends a chunk early now and then, says once what was said six times, or has no tokens left.
Two halves of such a chunk, cut in a pause, are decoded again; whichever heard more is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from app.domain.options import DecodingOptions
from app.domain.transcript import SAMPLE_RATE, Chunk, Hypothesis, Samples, SpeechRegion
from app.engine.batching import Batcher, TaskFuture
from app.engine.work import Work
from app.models.protocols import RecognitionItem, Recognizer
from app.pipeline.chunking import divide
from app.pipeline.hypotheses import (
    TEMPERATURES,
    best_hypothesis,
    is_credible,
    is_silence,
    missing_speech,
    needs_fallback,
    num_letters,
    repeats_itself,
)

Heard: TypeAlias = tuple[Chunk, Hypothesis]

MAX_DIVISIONS = 3
MAX_DECODES = 16  # of a chunk and all its parts, so that noise costs no more than it is worth
TEMPERATURES_OF_HALVES = TEMPERATURES[:2]


@dataclass(slots=True)
class ChunkSource:
    """What decodes a chunk and its parts. `num_decodes`: so far."""

    recognizer: Batcher[Recognizer]
    work: Work
    options: DecodingOptions
    num_decodes: int = 0

    def decode(self, samples: Samples, speech_s: float, temperature: float) -> TaskFuture:
        # all that follows waits for a second try
        first = self.num_decodes > 0
        self.num_decodes += 1
        item = RecognitionItem(samples, replace(self.options, temperature=temperature), speech_s)
        [future] = self.work.submit(self.recognizer, [item], first=first)
        return future


class ChunkDecoding:
    """Advances by what is done; never waits."""

    def __init__(
        self,
        chunk: Chunk,
        samples: Samples,
        source: ChunkSource,
        wake: Callable[[], None],
        future: TaskFuture | None = None,
        depth: int = 0,
    ) -> None:
        """`wake` is called, in any thread, when it can advance; it must not refer to it, or both
        would stay in memory with the recording. `future`: of its first hypothesis, where that is
        under way. `depth`: of divisions.
        """
        self.chunk = chunk
        self.heard: tuple[Heard, ...] | None = None  # known once all is decoded
        self._samples = samples
        self._source = source
        self._wake = wake
        self._depth = depth
        self._tried: list[Hypothesis] = []
        self._whole: Hypothesis | None = None  # what was heard before it was divided
        self._halves: tuple[ChunkDecoding, ...] = ()
        self._temperatures = iter(self._all_temperatures())
        temperature = next(self._temperatures)
        self._future: TaskFuture | None = None
        self._await(future or source.decode(samples, chunk.speech_s, temperature))

    def _all_temperatures(self) -> Sequence[float]:
        asked = self._source.options.temperature
        if asked or not self.chunk.speech:
            # where no speech was found, nothing is believed that needs a second try
            return (asked,)
        return TEMPERATURES_OF_HALVES if self._depth else TEMPERATURES

    def _await(self, future: TaskFuture) -> None:
        self._future = future
        wake = self._wake
        future.add_done_callback(lambda _: wake())

    def advance(self) -> None:
        """Go on as far as possible.

        Raises:
            ServiceError: recognition failed, or the work was cancelled.
        """
        if self._future is not None and self._future.done():
            future, self._future = self._future, None
            self._consider(self._source.work.wait(future))
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
            if self._try_again():
                return
            hypothesis = best_hypothesis(self._tried)
        missing = missing_speech(self.chunk, hypothesis)
        is_whole = not missing and not hypothesis.is_cut_off
        if is_whole or is_silence(hypothesis) or not self._divide(hypothesis, missing):
            self.heard = self._credible(hypothesis)

    def _try_again(self) -> bool:
        temperature = next(self._temperatures, None)
        if temperature is None:
            return False
        self._await(self._source.decode(self._samples, self.chunk.speech_s, temperature))
        return True

    def _credible(self, hypothesis: Hypothesis) -> tuple[Heard, ...]:
        asked = self._source.options.temperature
        return ((self.chunk, hypothesis),) if is_credible(self.chunk, hypothesis, asked) else ()

    def _divide(self, hypothesis: Hypothesis, missing: Sequence[SpeechRegion]) -> bool:
        """Decode halves, if it can be divided; the hypothesis stands if they are no better."""
        spent = self._source.num_decodes > MAX_DECODES - 2
        if spent or self._whole or self._depth == MAX_DIVISIONS or not self.chunk.speech:
            return False
        divided = divide(self.chunk, self._samples, missing)
        if divided is None:
            return False
        self._whole = hypothesis
        self._halves = tuple(map(self._half, divided))
        return True

    def _half(self, part: Chunk) -> ChunkDecoding:
        begin = round((part.start_s - self.chunk.start_s) * SAMPLE_RATE)
        end = round((part.end_s - self.chunk.start_s) * SAMPLE_RATE)
        samples = self._samples[begin:end]
        return ChunkDecoding(part, samples, self._source, self._wake, depth=self._depth + 1)

    def _compare(self) -> None:
        halves = [half.heard for half in self._halves]
        if None in halves or self._whole is None:
            return
        together = tuple(heard for half in halves for heard in half or ())
        whole = self._credible(self._whole)
        if _num_letters(together) > _num_letters(whole):
            self.heard = together
        elif repeats_itself(self._whole) and self._try_again():
            self._halves = ()  # neither is any good
        else:
            self.heard = whole


def _num_letters(heard: Iterable[Heard]) -> float:
    """Of what does not repeat itself."""
    return sum(
        num_letters(hypothesis.text) for _, hypothesis in heard if not repeats_itself(hypothesis)
    )
