"""What the clients of /v1/realtime send, and what they must hear."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.support.media import speech
from tests.support.truth import truth_of

KEY = "sk-live"
RATE = 24_000


def said(name: str) -> list[str]:
    return [word["word"] for word in truth_of(name)["words"]]


def at_rate(name: str, rate: int) -> np.ndarray[Any, Any]:
    """The recording with half a second of silence behind it."""
    samples = np.concatenate([speech(name), np.zeros(16_000, np.float32)])
    times = np.arange(len(samples) * rate // 16_000) * 16_000 / rate
    return np.interp(times, np.arange(len(samples)), samples)


def pcm(name: str, rate: int = RATE) -> bytes:
    return (np.clip(at_rate(name, rate), -1, 1) * 32767).astype("<i2").tobytes()
