"""Peaks: the shape of a recording, for a waveform that is drawn before any sound is there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from app.domain.transcript import Samples

NUM_PEAKS = 4000  # at most; a wide screen has as many pixels
FULL_SCALE = 255


def peaks_of(channels: Sequence[Samples]) -> bytes:
    """The loudest sample of each part of a recording, in any channel: one byte each, 255 for full
    scale. The parts are equally long, but for the last one.

    `channels`: float32 (num_samples,), all equally long.
    """
    return bytes(map(max, zip(*map(_channel_peaks, channels), strict=True)))


def _channel_peaks(samples: Samples) -> list[int]:
    loudest = [float(np.max(np.abs(part), initial=0.0)) for part in _parts(samples)]
    return [min(FULL_SCALE, round(peak * FULL_SCALE)) for peak in loudest]


def _parts(samples: Samples) -> Iterator[Samples]:
    width = max(1, -(-len(samples) // NUM_PEAKS))
    return (samples[begin : begin + width] for begin in range(0, len(samples), width))
