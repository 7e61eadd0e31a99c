"""Hypotheses -> Segments: which to trust, and where in the recording they lie. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from app.transcript import Chunk, Hypothesis, Segment

# When a hypothesis is decoded again, and when it is taken for no speech.
# Source: Radford et al. 2022, https://arxiv.org/abs/2212.04356, section 4.5
TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
MAX_COMPRESSION_RATIO = 2.4
MIN_AVG_LOGPROB = -1.0
MAX_NO_SPEECH_PROB = 0.6


def needs_fallback(hypothesis: Hypothesis) -> bool:
    """Whether a hypothesis is too repetitive or too unlikely, and is not silence."""
    decoding = hypothesis.decoding
    if is_silence(hypothesis):
        return False
    return (
        decoding.compression_ratio > MAX_COMPRESSION_RATIO or decoding.avg_logprob < MIN_AVG_LOGPROB
    )


def is_silence(hypothesis: Hypothesis) -> bool:
    decoding = hypothesis.decoding
    return decoding.no_speech_prob > MAX_NO_SPEECH_PROB and decoding.avg_logprob < MIN_AVG_LOGPROB


def best_hypothesis(tried: Sequence[Hypothesis]) -> Hypothesis:
    """The most likely of those that do not repeat themselves, or else of all."""
    sober = [h for h in tried if h.decoding.compression_ratio <= MAX_COMPRESSION_RATIO]
    return max(sober or tried, key=lambda h: h.decoding.avg_logprob)


def draft_segments(chunk: Chunk, hypothesis: Hypothesis) -> list[Segment]:
    """The parts of a chunk's hypothesis on the recording's time line; none for silence."""
    if is_silence(hypothesis):
        return []
    segments: list[Segment] = []
    last_end_s = chunk.start_s
    parts = hypothesis.parts
    for i, part in enumerate(parts):
        start_s = last_end_s if part.start_s is None else chunk.start_s + part.start_s
        following = next((p.start_s for p in parts[i + 1 :] if p.start_s is not None), None)
        end_s = chunk.end_s if following is None else chunk.start_s + following
        if part.end_s is not None:
            end_s = chunk.start_s + part.end_s
        start_s = min(max(start_s, last_end_s), chunk.end_s)
        end_s = min(max(end_s, start_s), chunk.end_s)
        segments.append(
            Segment(
                start_s,
                end_s,
                part.text,
                chunk=chunk,
                decoding=hypothesis.decoding,
                tokens=part.tokens,
                token_ends=part.token_ends,
                token_probs=part.token_probs,
            )
        )
        last_end_s = end_s
    return segments
