"""Measures the level of a recording while it is written, and raises quiet ones to a usual level.

Speech detection and Whisper work from -50 dB up; field recorders write -80 dB.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from app.domain.transcript import SAMPLE_RATE, Samples

BYTES_PER_SAMPLE = 4
BLOCK_SAMPLES = SAMPLE_RATE // 10
BIN_DB = 0.5
LEAST_DB = -160.0
NUM_BINS = int(-LEAST_DB / BIN_DB) + 1
# The level of speech: at least this much of the recording is as loud. A click is shorter.
LOUDEST_S, LOUDEST_SHARE = 0.5, 0.005

QUIET_DB = -40.0  # a recording below it is raised
TARGET_DB = -20.0
MAX_GAIN_DB = 80.0
MOVING_DB = 8.0  # from the floor to speech; less is steady noise, which is not raised
MAX_LEVEL = 0.9
PASS_BLOCKS = 40


class LevelMeter:
    """A histogram of the levels of 100 ms blocks. Digital silence does not count."""

    def __init__(self) -> None:
        self._counts = np.zeros(NUM_BINS, np.int64)
        self._rest = np.empty(0, np.float32)

    def add(self, samples: Samples) -> None:
        samples = np.concatenate([self._rest, samples]) if len(self._rest) else samples
        whole = len(samples) // BLOCK_SAMPLES * BLOCK_SAMPLES
        self._count(samples[:whole].reshape(-1, BLOCK_SAMPLES))
        self._rest = samples[whole:].copy()

    def gain_db(self) -> float:
        """The gain that the recording needs; 0 for nearly all."""
        if not self._counts.any() and len(self._rest):
            self._count(self._rest.reshape(1, -1))
        total = int(self._counts.sum())
        if not total:
            return 0.0
        loudest = max(LOUDEST_S * SAMPLE_RATE / BLOCK_SAMPLES, LOUDEST_SHARE * total)
        from_above = np.cumsum(self._counts[::-1])[::-1]  # number of blocks at least this loud
        speech = int(np.flatnonzero(from_above >= min(loudest, total))[-1])
        floor = int(np.flatnonzero(from_above >= 0.9 * total)[-1])
        speech_db = LEAST_DB + speech * BIN_DB
        if speech_db >= QUIET_DB or (speech - floor) * BIN_DB < MOVING_DB:
            return 0.0
        return min(TARGET_DB - speech_db, MAX_GAIN_DB)

    def _count(self, blocks: npt.NDArray[np.float32]) -> None:
        power = np.einsum("ij,ij->i", blocks, blocks, dtype=np.float64) / blocks.shape[1]
        power = power[power > 0]
        level = 10 * np.log10(power + 10 ** (LEAST_DB / 10))
        bins = np.clip(((level - LEAST_DB) / BIN_DB).astype(np.int64), 0, NUM_BINS - 1)
        self._counts += np.bincount(bins, minlength=NUM_BINS)


def raise_level(file: BinaryIO, num_samples: int, gain_db: float) -> None:
    """Multiply the float32 samples of a file in place, by less where they would clip.

    Silent blocks are not written, so holes in the file stay holes.
    """
    gain = 10 ** (gain_db / 20)
    size = PASS_BLOCKS * BLOCK_SAMPLES
    last = gain  # the gain at the end of the previous block
    end = 0  # of what is done
    while (begin := _next_data(file, end)) < num_samples:
        if begin > end:  # silence precedes
            last = gain
        end = begin + size
        # one more block, because its gain limits the last one
        ahead = _read(file, begin, min(size + BLOCK_SAMPLES, num_samples - begin))
        samples = ahead[:size]
        if not samples.any():
            last = float(_allowed(ahead[size:], gain)[0]) if len(ahead) > size else gain
            continue
        allowed = _allowed(ahead, gain)
        edges = np.minimum(np.append(allowed, gain), np.insert(allowed, 0, last))
        num = -(-len(samples) // BLOCK_SAMPLES)
        at = np.arange(len(samples)) / BLOCK_SAMPLES
        gains = np.interp(at, np.arange(num + 1), edges[: num + 1])
        file.seek(begin * BYTES_PER_SAMPLE)
        file.write((samples * gains).astype("<f4").tobytes())
        last = float(edges[num])


def _next_data(file: BinaryIO, begin: int) -> int:
    """The first sample from `begin` on that is not in a hole, at the start of its block."""
    file.flush()
    try:
        at = os.lseek(file.fileno(), begin * BYTES_PER_SAMPLE, os.SEEK_DATA) // BYTES_PER_SAMPLE
    except OSError as error:
        if error.errno == errno.ENXIO:  # only holes are left
            return sys.maxsize
        return begin
    block = PASS_BLOCKS * BLOCK_SAMPLES
    return max(begin, at // block * block)


def _read(file: BinaryIO, begin: int, num_samples: int) -> Samples:
    file.seek(begin * BYTES_PER_SAMPLE)
    return np.frombuffer(file.read(num_samples * BYTES_PER_SAMPLE), "<f4").astype(np.float32)


def _allowed(samples: Samples, gain: float) -> npt.NDArray[np.float64]:
    """For each block, the largest gain up to `gain` that does not clip."""
    padded = np.pad(samples, (0, -len(samples) % BLOCK_SAMPLES)).reshape(-1, BLOCK_SAMPLES)
    peaks = np.abs(padded).max(axis=1).astype(np.float64)
    allowed: npt.NDArray[np.float64] = np.minimum(gain, MAX_LEVEL / np.maximum(peaks, 1e-30))
    return allowed
