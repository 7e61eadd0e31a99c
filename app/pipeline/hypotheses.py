"""What to think of a Hypothesis: decode it again, divide its chunk, drop it? Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

from app.domain.transcript import Chunk, Hypothesis, SpeechRegion

# When a hypothesis is decoded again, and when it is taken for no speech.
# Source: Radford et al. 2022, https://arxiv.org/abs/2212.04356, section 4.5
TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
MAX_COMPRESSION_RATIO = 2.4
MIN_AVG_LOGPROB = -1.0
MAX_NO_SPEECH_PROB = 0.6

# What is heard at a higher temperature only, where Whisper rather hears no speech, was not said.
DOUBTED_NO_SPEECH_PROB = 0.5

# Where the detector found no speech, only a hypothesis without doubt is believed.
SURE_AVG_LOGPROB = -0.6
SURE_NO_SPEECH_PROB = 0.5

# Letters of a second of speech. Measured on read English: 12 to 17; where words were lost, less.
SPARSE_LETTERS_PER_S = 12.0
FEW_LETTERS_PER_S = 5.0
STRAY_LETTERS_PER_S = 2.0
STRAY_SPEECH_S = 3.0
LETTERS_OF_WIDE = 3.0  # a Chinese, Japanese or Korean character is a syllable
LETTERS_OF_DIGIT = 4.0

# Words that were found by cross-attention begin and end a little off.
WORD_MARGIN_S = 0.35
LEAST_MISSING_S = 0.8


def needs_fallback(hypothesis: Hypothesis) -> bool:
    """Whether a hypothesis is too repetitive or too unlikely, and is not silence."""
    if is_silence(hypothesis):
        return False
    return repeats_itself(hypothesis) or hypothesis.stats.avg_logprob < MIN_AVG_LOGPROB


def repeats_itself(hypothesis: Hypothesis) -> bool:
    return hypothesis.stats.compression_ratio > MAX_COMPRESSION_RATIO


def is_silence(hypothesis: Hypothesis) -> bool:
    decoding = hypothesis.stats
    return decoding.no_speech_prob > MAX_NO_SPEECH_PROB and decoding.avg_logprob < MIN_AVG_LOGPROB


def is_credible(chunk: Chunk, hypothesis: Hypothesis, temperature: float = 0.0) -> bool:
    """Whether the text was said. Whisper invents sentences where nobody speaks.

    `temperature`: that was asked for.
    """
    decoding = hypothesis.stats
    if not hypothesis.text.strip() or is_silence(hypothesis):
        return False
    if decoding.temperature > temperature and decoding.no_speech_prob > DOUBTED_NO_SPEECH_PROB:
        return False
    if chunk.speech:
        return not _is_stray(chunk, hypothesis)
    return (
        decoding.avg_logprob > SURE_AVG_LOGPROB
        and decoding.no_speech_prob < SURE_NO_SPEECH_PROB
        and not repeats_itself(hypothesis)
    )


def _is_stray(chunk: Chunk, hypothesis: Hypothesis) -> bool:
    """Whether it is a doubtful word or two for seconds of what only seemed to be speech: music."""
    if chunk.speech_s < STRAY_SPEECH_S or hypothesis.stats.avg_logprob > SURE_AVG_LOGPROB:
        return False
    return num_letters(hypothesis.text) < STRAY_LETTERS_PER_S * chunk.speech_s


def best_hypothesis(tried: Sequence[Hypothesis]) -> Hypothesis:
    """The most likely of those that do not repeat themselves, or else of all."""
    sober = [h for h in tried if not repeats_itself(h)]
    return max(sober or tried, key=lambda h: h.stats.avg_logprob)


# -- what is missing -------------------------------------------------------------------------------


def num_letters(text: str) -> float:
    """How much text there is to say, about the same in every script."""
    return sum(map(_letters, filter(str.isalnum, text)))


def _letters(char: str) -> float:
    if char.isdigit():
        return LETTERS_OF_DIGIT
    return LETTERS_OF_WIDE if unicodedata.east_asian_width(char) == "W" else 1.0


def is_sparse(hypothesis: Hypothesis, speech_s: float) -> bool:
    """Whether it is worth a look if something is missing."""
    if speech_s < LEAST_MISSING_S:
        return False
    return num_letters(hypothesis.text) < SPARSE_LETTERS_PER_S * speech_s


def missing_speech(chunk: Chunk, hypothesis: Hypothesis) -> list[SpeechRegion]:
    """The speech of a chunk that has no words in its hypothesis, as far as can be told.

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
