"""Words with times, one after the other."""

from __future__ import annotations

from app.domain.transcript import SpokenWord


def spoken(text: str, each_s: float = 0.4, start_s: float = 0.0) -> list[SpokenWord]:
    return [
        SpokenWord(f" {word}", start_s + i * each_s, start_s + (i + 1) * each_s, 0.9)
        for i, word in enumerate(text.split())
    ]
