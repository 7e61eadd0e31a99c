"""One chunk on its way to text: decoded, decoded again if that fails, divided if speech is missing.

Whisper sometimes ends a chunk early, says once what was said six times, or runs out of tokens. Then
two halves of the chunk, cut in a pause, are decoded; the version that heard more is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from app.domain.errors import ServiceError
from app.domain.options import DecodingOptions
from app.domain.transcript import SAMPLE_RATE, Chunk, Hypothesis, Samples, SpeechRegion
from app.engine.tasks import TaskFuture
from app.engine.work import Work
from app.models.leases import LeasedRecognizer
from app.models.protocols import RecognitionItem
from app.pipeline.chunking import divide
from app.pipeline.hypotheses import Judge, missing_speech
from app.pipeline.left_context import better_with_context
from app.text.letters import num_letters

Heard: TypeAlias = tuple[Chunk, Hypothesis]

MAX_DIVISIONS = 3
MAX_DECODES = 16  # of a chunk and all its parts, to limit what noise costs
MAX_TEMPERATURES_OF_HALVES = 2
LONGEST_S = 30.0  # of the sound of one decode


@dataclass(slots=True)
class ChunkSource:
    """Decodes a chunk and its parts. `hurry`: see `TranscribeOptions`. `left_context`: the sound
    just before the chunk, if it is known. `num_decodes`: so far.
    """

    recognizer: LeasedRecognizer
    work: Work
    options: DecodingOptions
    hurry: bool = False
    left_context: tuple[Samples, ...] = ()
    num_decodes: int = 0

    def may_be_brief(self, samples: Samples) -> bool:
        return self.hurry and len(samples) <= self.recognizer.model.brief_s * SAMPLE_RATE

    def decode(
        self, samples: Samples, temperature: float, brief: bool = False
    ) -> TaskFuture[Hypothesis]:
        # everything after this chunk waits for a second try
        first = self.num_decodes > 0
        self.num_decodes += 1
        options = replace(self.options, temperature=temperature, brief=brief)
        if temperature > self.options.temperature:  # what was said before may have misled it
            options = replace(options, context="")
        return self._submit(samples, options, first)

    @property
    def context_s(self) -> float:
        return sum(map(len, self.left_context)) / SAMPLE_RATE

    def decode_after_context(self, samples: Samples) -> TaskFuture[Hypothesis] | None:
        """None if there is none, or too much for the recognizer."""
        if not self.left_context or self.context_s + len(samples) / SAMPLE_RATE > LONGEST_S:
            return None
        together = np.concatenate([*self.left_context, samples])
        # the text before is in the sound now
        return self._submit(together, replace(self.options, context=""), first=True)

    def _submit(
        self, samples: Samples, options: DecodingOptions, first: bool
    ) -> TaskFuture[Hypothesis]:
        item = RecognitionItem(samples, options)
        [future] = self.work.submit(self.recognizer.recognition, [item], first=first)
        return future


class ChunkDecoding:
    """Advances when a hypothesis is ready; never waits."""

    def __init__(
        self,
        chunk: Chunk,
        samples: Samples,
        source: ChunkSource,
        wake: Callable[[], None],
        future: TaskFuture[Hypothesis] | None = None,
        depth: int = 0,
    ) -> None:
        """`wake` is called, in any thread, when this object can advance. `wake` must not refer to
        it, or both would stay in memory with the recording. `future`: of its first hypothesis, if
        that is under way. `depth`: number of divisions above it.
        """
        self.chunk = chunk
        self.heard: tuple[Heard, ...] | None = None  # known once all is decoded
        self._samples = samples
        self._source = source
        self._judge = Judge(source.recognizer.model.thresholds)
        self._wake = wake
        self._depth = depth
        self._tried: list[Hypothesis] = []
        self._whole: Hypothesis | None = None  # from before it was divided
        self._alone: tuple[Heard, ...] = ()  # before it was heard after its context
        self._halves: tuple[ChunkDecoding, ...] = ()
        self._temperatures = iter(self._all_temperatures())
        temperature = next(self._temperatures)
        self._is_brief = future is None and source.may_be_brief(samples)
        self._future: TaskFuture[Hypothesis] | None = None
        self._await(future or source.decode(samples, temperature, self._is_brief))

    def _all_temperatures(self) -> Sequence[float]:
        asked = self._source.options.temperature
        if asked or not self.chunk.speech:
            # where no speech was found, a hypothesis that needs a second try is not believed
            return (asked,)
        temperatures = self._judge.thresholds.temperatures
        return temperatures[:MAX_TEMPERATURES_OF_HALVES] if self._depth else temperatures

    def _await(self, future: TaskFuture[Hypothesis]) -> None:
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
            self._take(future)
        for half in self._halves:
            half.advance()
        if self._halves and self.heard is None:
            self._compare()

    def _take(self, future: TaskFuture[Hypothesis]) -> None:
        if not self._alone:
            self._consider(self._source.work.wait(future))
            return
        try:
            whole = self._source.work.wait(future)
        except ServiceError:
            self._source.work.check()
            self.heard = self._alone  # the first hearing was good
            return
        [(_, alone)] = self._alone
        better = better_with_context(alone, whole, self._source.context_s)
        self.heard = (better and self._credible(better)) or self._alone

    def _consider(self, hypothesis: Hypothesis) -> None:
        if self._is_brief:
            self._is_brief = False
            if not self._is_beyond_doubt(hypothesis):
                asked = self._source.options.temperature
                self._await(self._source.decode(self._samples, asked))
                return
        self._tried.append(hypothesis)
        # dividing the sound ends repetitions more often than a higher temperature does
        if self._judge.repeats_itself(hypothesis) and self._divide(hypothesis, []):
            return
        if self._judge.needs_fallback(hypothesis):
            if self._try_again():
                return
            hypothesis = self._judge.best(self._tried)
        missing = missing_speech(self.chunk, hypothesis)
        is_whole = not missing and not hypothesis.is_cut_off
        if is_whole or self._judge.is_silence(hypothesis) or not self._divide(hypothesis, missing):
            self._accept(hypothesis)

    def _accept(self, hypothesis: Hypothesis) -> None:
        """Or hear it again after its context."""
        heard = self._credible(hypothesis)
        timed = hypothesis.words is not None
        if heard and timed and not self._depth and self._judge.is_unsure(hypothesis):
            future = self._source.decode_after_context(self._samples)
            if future is not None:
                self._alone = heard
                self._await(future)
                return
        self.heard = heard

    def _is_beyond_doubt(self, hypothesis: Hypothesis) -> bool:
        return (
            self._judge.is_sure(hypothesis)
            and not self._judge.repeats_itself(hypothesis)
            and not hypothesis.is_cut_off
            and not missing_speech(self.chunk, hypothesis)
            and bool(self._credible(hypothesis))
        )

    def _try_again(self) -> bool:
        temperature = next(self._temperatures, None)
        if temperature is None:
            return False
        self._await(self._source.decode(self._samples, temperature))
        return True

    def _credible(self, hypothesis: Hypothesis) -> tuple[Heard, ...]:
        asked = self._source.options.temperature
        credible = self._judge.is_credible(self.chunk, hypothesis, asked)
        return ((self.chunk, hypothesis),) if credible else ()

    def _divide(self, hypothesis: Hypothesis, missing: Sequence[SpeechRegion]) -> bool:
        """Decode halves if possible; the hypothesis stands if they are no better."""
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
        if self._num_letters(together) > self._num_letters(whole):
            self.heard = together
        elif self._judge.repeats_itself(self._whole) and self._try_again():
            self._halves = ()  # neither is any good
        else:
            self.heard = whole

    def _num_letters(self, heard: Iterable[Heard]) -> float:
        """Without hypotheses that repeat themselves."""
        hypotheses = [hypothesis for _, hypothesis in heard]
        return sum(num_letters(h.text) for h in hypotheses if not self._judge.repeats_itself(h))
