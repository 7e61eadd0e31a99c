"""Words of a live stream as JSON. Times are seconds of the stream."""

from __future__ import annotations

from typing import Any

from app.domain.transcript import SpokenWord, Word


def stream_seconds(value: float) -> float:
    return round(value, 3)


def spoken_json(word: SpokenWord) -> dict[str, Any]:
    """A word timed by the recognizer itself."""
    return {
        "word": word.text.strip(),
        "start": stream_seconds(word.start_s),
        "end": stream_seconds(word.end_s),
        "probability": round(word.probability, 3),
    }


def aligned_json(word: Word) -> dict[str, Any]:
    """A word of a transcript; None for what is not known."""
    return {
        "word": word.text,
        "start": None if word.start_s is None else stream_seconds(word.start_s),
        "end": None if word.end_s is None else stream_seconds(word.end_s),
        "score": None if word.score is None else round(word.score, 3),
        **({} if word.speaker is None else {"speaker": word.speaker}),
    }
