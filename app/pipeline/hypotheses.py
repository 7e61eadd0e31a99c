"""What to do with a Hypothesis: believe it, decode it again, divide its chunk, drop it? Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from app.domain.transcript import Chunk, Hypothesis, SpeechRegion
from app.models.protocols import HypothesisThresholds
from app.text.letters import num_letters

# Letters per second of speech; below: all of the chunk may be missing, or the text was not said.
FEW_LETTERS_PER_S = 5.0
STRAY_LETTERS_PER_S = 2.0
STRAY_SPEECH_S = 3.0

# Word times from cross-attention are a little off.
WORD_MARGIN_S = 0.35
LEAST_MISSING_S = 0.8  # shorter speech may well be without words


@dataclass(frozen=True, slots=True)
class Judge:
    """Applies a recognizer's thresholds to its hypotheses."""

    thresholds: HypothesisThresholds

    def needs_fallback(self, hypothesis: Hypothesis) -> bool:
        """Whether it is too repetitive or too unlikely, and is not silence."""
        if self.is_silence(hypothesis):
            return False
        return self.repeats_itself(hypothesis) or self._is_unlikely(hypothesis)

    def repeats_itself(self, hypothesis: Hypothesis) -> bool:
        return hypothesis.stats.compression_ratio > self.thresholds.max_compression_ratio

    def is_silence(self, hypothesis: Hypothesis) -> bool:
        silent = hypothesis.stats.no_speech_prob > self.thresholds.max_no_speech_prob
        return silent and self._is_unlikely(hypothesis)

    def _is_unlikely(self, hypothesis: Hypothesis) -> bool:
        return hypothesis.stats.avg_logprob < self.thresholds.min_avg_logprob

    def is_credible(self, chunk: Chunk, hypothesis: Hypothesis, temperature: float = 0.0) -> bool:
        """Whether the text was said: recognizers invent sentences where nobody speaks.

        `temperature`: the one that the request asked for.
        """
        stats, thresholds = hypothesis.stats, self.thresholds
        if not num_letters(hypothesis.text) or self.is_silence(hypothesis):
            return False
        doubted = stats.no_speech_prob > thresholds.doubted_no_speech_prob
        if stats.temperature > temperature and doubted:
            return False
        if chunk.speech:
            return not self._is_stray(chunk, hypothesis)
        return (
            self.is_sure(hypothesis)
            and stats.no_speech_prob < thresholds.sure_no_speech_prob
            and not self.repeats_itself(hypothesis)
        )

    def is_sure(self, hypothesis: Hypothesis) -> bool:
        return hypothesis.stats.avg_logprob > self.thresholds.sure_avg_logprob

    def is_unsure(self, hypothesis: Hypothesis) -> bool:
        return hypothesis.stats.avg_logprob < self.thresholds.unsure_avg_logprob

    def _is_stray(self, chunk: Chunk, hypothesis: Hypothesis) -> bool:
        """Whether it is a doubtful word or two for seconds of music that only seemed speech."""
        if chunk.speech_s < STRAY_SPEECH_S or self.is_sure(hypothesis):
            return False
        unlikely = self._is_unlikely(hypothesis)
        least_per_s = FEW_LETTERS_PER_S if unlikely else STRAY_LETTERS_PER_S
        return num_letters(hypothesis.text) < least_per_s * chunk.speech_s

    def best(self, tried: Sequence[Hypothesis]) -> Hypothesis:
        """The most likely of those that do not repeat themselves, or else of all."""
        sober = [h for h in tried if not self.repeats_itself(h)]
        return max(sober or tried, key=lambda h: h.stats.avg_logprob)


# -- what is missing -------------------------------------------------------------------------------


def missing_speech(chunk: Chunk, hypothesis: Hypothesis) -> list[SpeechRegion]:
    """The speech of a chunk for which its hypothesis has no words.

    Empty unless `hypothesis.words` are known.
    """
    if hypothesis.words is None or chunk.speech_s < LEAST_MISSING_S:
        return []
    if num_letters(hypothesis.text) < FEW_LETTERS_PER_S * chunk.speech_s:
        return list(chunk.speech)
    heard = [
        (
            chunk.start_s + word.start_s - WORD_MARGIN_S,
            chunk.start_s + word.end_s + WORD_MARGIN_S,
        )
        for word in hypothesis.words
    ]
    left = [part for region in chunk.speech for part in _without(region, heard)]
    return [part for part in left if part.end_s - part.start_s >= LEAST_MISSING_S]


def _without(region: SpeechRegion, heard: Iterable[tuple[float, float]]) -> Iterable[SpeechRegion]:
    """The parts of a region outside the spans, which are in order."""
    at_s = region.start_s
    for start_s, end_s in heard:
        if start_s > at_s:
            yield SpeechRegion(at_s, min(start_s, region.end_s))
        at_s = max(at_s, end_s)
        if at_s >= region.end_s:
            return
    yield SpeechRegion(at_s, region.end_s)
