"""Tape: the end of a stream's sound, as far as it may still be needed."""

from __future__ import annotations

import numpy as np

from app.domain.transcript import SAMPLE_RATE, Samples


class Tape:
    """Samples by their time in the stream."""

    def __init__(self, start_s: float = 0.0) -> None:
        self._pieces: list[Samples] = []
        self._first = round(start_s * SAMPLE_RATE)  # of the stream's samples
        self._num_samples = 0

    @property
    def end_s(self) -> float:
        return (self._first + self._num_samples) / SAMPLE_RATE

    @property
    def start_s(self) -> float:
        return self._first / SAMPLE_RATE

    def add(self, samples: Samples) -> None:
        if len(samples):
            self._pieces.append(samples)
            self._num_samples += len(samples)

    def between(self, start_s: float, end_s: float) -> Samples:
        """float32 (num_samples,); what is no longer or not yet there is left out."""
        whole = self._joined()
        begin = max(0, round(start_s * SAMPLE_RATE) - self._first)
        end = max(begin, round(end_s * SAMPLE_RATE) - self._first)
        return whole[begin:end]

    def forget(self, before_s: float) -> None:
        """Drop the sound before a time."""
        drop = min(max(0, round(before_s * SAMPLE_RATE) - self._first), self._num_samples)
        if drop:
            self._pieces = [self._joined()[drop:].copy()]
            self._first += drop
            self._num_samples -= drop

    def _joined(self) -> Samples:
        if len(self._pieces) != 1:
            empty = np.zeros(0, np.float32)
            self._pieces = [np.concatenate(self._pieces) if self._pieces else empty]
        return self._pieces[0]
