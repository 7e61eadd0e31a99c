"""Mixes many channels into one without losing a voice. Pure arithmetic, block by block.

Channel layouts are ignored: a channel called "LFE" or "top back left" may be a microphone. The mix
adds all channels and lowers the sum only as far as needed. It inverts channels that would cancel
each other, and leaves out steady noise beside speech.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

STATISTICS_RATE = 8_000  # Hz: enough for speech
SLICE_S = 0.05
FADE_S = 0.02  # from one block's gains to the next
CLEAR_CORRELATION = 0.3  # a weaker one says nothing about a channel's polarity
SPEAKING_DB = 10.0  # least range of the levels of speech within a block
STEADY_DB, MOVING_DB = 3.0, 6.0  # range of noise; of noise with a voice in it
SILENCE = 1e-9  # power
MAX_LEVEL = 1.0


class Mixer:
    """Mixes the blocks of one stream. Judges each block alone, so the first is already right."""

    def __init__(self, num_channels: int, rate: int) -> None:
        self._rate = rate
        self._signs = np.ones(num_channels)
        self._gains: Floats | None = None  # of the previous block

    def mix(self, block: Floats) -> Floats:
        """float32 (num_samples,) from float32 (num_channels, num_samples), within -1 to 1."""
        if len(block) == 1 or not block.shape[1]:
            first: Floats = block[0]
            return first
        gains = self._choose(block)
        mixed = _weighted_sum(gains, block)
        peak = max(float(mixed.max()), -float(mixed.min()))
        if peak > MAX_LEVEL:
            gains = gains * np.float32(MAX_LEVEL / peak)
            mixed *= np.float32(MAX_LEVEL / peak)
        before = gains if self._gains is None else self._gains
        if not np.array_equal(before, gains):
            num_faded = min(block.shape[1], max(1, round(FADE_S * self._rate)))
            share = np.linspace(0, 1, num_faded, dtype=np.float32)
            head = block[:, :num_faded]
            faded = (1 - share) * _weighted_sum(before, head)
            mixed[:num_faded] = share * mixed[:num_faded] + faded
        self._gains = gains
        return mixed

    def _choose(self, block: Floats) -> Floats:
        heard = _band_of_speech(block, self._rate)
        powers: Doubles = np.mean(np.square(heard), axis=1, dtype=np.float64)
        if powers.max(initial=0.0) < SILENCE:
            if self._gains is not None:
                return self._gains
            powers = np.ones(len(block))
        weights = _without_steady_noise(heard, self._rate)
        levels = weights * np.sqrt(powers)
        if levels.max() <= 0:
            levels = weights = np.ones(len(block))
        self._turn_around(heard, levels)
        # keeps the level of a voice that is in one channel, or in all of them
        gains = self._signs * weights * (levels.max() / levels.sum())
        return np.asarray(gains, np.float32)

    def _turn_around(self, heard: Floats, levels: Doubles) -> None:
        """Give each channel, loudest first, the sign with which it adds to the sum.

        The sum then has at least the power of its parts: |a + b|^2 >= |a|^2 + |b|^2 if they do not
        oppose each other.
        """
        order = np.argsort(-levels, kind="stable")
        weights = np.where(levels > 0, 1.0, 0.0)
        signs = self._signs.copy()
        signs[order[0]] = self._signs[order[0]]
        total = signs[order[0]] * heard[order[0]]
        for channel in order[1:]:
            if not weights[channel]:
                continue
            other = heard[channel]
            scale = (_inner(total, total) * _inner(other, other)) ** 0.5
            likeness = _inner(total, other) / scale if scale > 0 else 0.0
            if abs(likeness) > CLEAR_CORRELATION:
                signs[channel] = np.sign(likeness)
            total = total + signs[channel] * other
        self._signs = signs


# No BLAS: its threads would take time from other files, mostly by waiting for each other.


def _weighted_sum(gains: Floats, block: Floats) -> Floats:
    total: Floats = block[0] * gains[0]
    for gain, channel in zip(gains[1:], block[1:], strict=True):
        if gain:
            total += channel * gain
    return total


def _inner(a: Floats, b: Floats) -> float:
    return float(np.einsum("i,i->", a, b))


def _band_of_speech(block: Floats, rate: int) -> Floats:
    """The differences of neighboring samples at about 8 kHz, which lowers hum and rumble."""
    step = max(1, rate // STATISTICS_RATE)
    num = block.shape[1] // step
    if num < 2:
        return block
    fewer = block[:, : num * step]
    if step > 1:
        strides = fewer.reshape(len(block), num, step)
        fewer = sum((strides[:, :, i] for i in range(1, step)), start=strides[:, :, 0])
        fewer = fewer / np.float32(step)
    difference: Floats = np.diff(fewer, axis=1)
    return difference


def _without_steady_noise(heard: Floats, rate: int) -> Doubles:
    """A weight from 0 to 1 for each channel: 0 for hiss or hum if another channel has speech."""
    step = max(1, rate // STATISTICS_RATE)
    size = max(1, round(SLICE_S * rate / step))
    num = heard.shape[1] // size
    if num < 10:  # less than half a second is too little to judge
        return np.ones(len(heard))
    slices = heard[:, : num * size].reshape(len(heard), num, size)
    powers = np.einsum("cns,cns->cn", slices, slices, dtype=np.float64) / size
    levels = 10 * np.log10(powers + SILENCE)
    low, high = np.percentile(levels, (10, 97), axis=1)
    movement = high - low
    if movement.max() < SPEAKING_DB:
        return np.ones(len(heard))
    weights: Doubles = np.clip((movement - STEADY_DB) / (MOVING_DB - STEADY_DB), 0.0, 1.0)
    return weights
