"""The decoder's figures for a segment, as Whisper's own JSON has them."""

from __future__ import annotations

from typing import Any

from app.domain.transcript import Segment

SEEK_STEP_S = 0.01  # Whisper's seek counts feature frames


def decoder_figures(segment: Segment) -> dict[str, Any]:
    """`tokens` are those of the segment; the rest describes its chunk, which may hold several
    segments. Empty if they are not known.
    """
    stats, chunk = segment.stats, segment.chunk
    if stats is None or chunk is None:
        return {}
    return {
        "seek": round(chunk.start_s / SEEK_STEP_S),
        "tokens": list(segment.tokens),
        "temperature": stats.temperature,
        "avg_logprob": stats.avg_logprob,
        "compression_ratio": stats.compression_ratio,
        "no_speech_prob": stats.no_speech_prob,
    }
