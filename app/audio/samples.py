"""Writes samples to a float32 file: counts and limits them, measures and raises their level."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import BinaryIO

import numpy as np

from app.audio.level import LevelMeter, raise_level
from app.domain.errors import UploadTooLarge
from app.domain.transcript import SAMPLE_RATE, Samples

BLOCK_SAMPLES = 1 << 16
BYTES_PER_SAMPLE = 4


class SampleFile:
    """A file of mono float32 samples at 16 kHz, within -1 to 1.

    `stop_after_s`: the caller needs only this many seconds. `make_room` is called with the number
    of bytes before each write.
    """

    def __init__(
        self,
        file: BinaryIO,
        max_duration_s: float,
        stop_after_s: float | None,
        make_room: Callable[[int], None],
    ) -> None:
        self._file = file
        self._make_room = make_room
        self._max_duration_s = max_duration_s
        self._stop_after_s = stop_after_s
        self._pending: list[Samples] = []
        self._num_pending = 0
        self._meter = LevelMeter()
        self.num_samples = 0
        self.num_silent = 0  # of them, in blocks without any sound

    @property
    def full(self) -> bool:
        return self._stop_after_s is not None and (
            self.num_samples >= self._stop_after_s * SAMPLE_RATE
        )

    def check_room(self, duration_s: float) -> None:
        """Raises UploadTooLarge if this much more would exceed the limit."""
        if self.num_samples / SAMPLE_RATE + duration_s > self._max_duration_s:
            raise UploadTooLarge(
                f"The recording is longer than the limit of {self._max_duration_s:g} seconds."
            )

    def write(self, samples: Samples) -> None:
        self.check_room(len(samples) / SAMPLE_RATE)
        self._pending.append(samples)
        self._num_pending += len(samples)
        self.num_samples += len(samples)
        if self._num_pending >= BLOCK_SAMPLES:
            self.flush()

    def write_silence(self, num_samples: int) -> None:
        """Leave a hole in the file: hours of silence take no disk space."""
        if self._stop_after_s is not None:
            left = int(self._stop_after_s * SAMPLE_RATE) + 1 - self.num_samples
            num_samples = min(num_samples, left)
        if num_samples <= 0:
            return
        self.check_room(num_samples / SAMPLE_RATE)
        self.flush()
        self._file.seek(num_samples * BYTES_PER_SAMPLE, os.SEEK_CUR)
        self.num_samples += num_samples
        self.num_silent += num_samples

    def flush(self) -> None:
        if not self._pending:
            return
        # codecs and filters exceed full scale
        samples = np.clip(np.concatenate(self._pending), -1.0, 1.0).astype("<f4", copy=False)
        self._pending.clear()
        self._num_pending = 0
        if samples.any():
            self._meter.add(samples)
            self._make_room(samples.nbytes)
            self._file.write(samples.tobytes())
        else:
            self._file.seek(samples.nbytes, os.SEEK_CUR)
            self.num_silent += len(samples)

    def finish(self) -> None:
        """Write the rest and raise a quiet recording to a level that models can use."""
        self.flush()
        self._file.truncate(self.num_samples * BYTES_PER_SAMPLE)
        if gain_db := self._meter.gain_db():
            raise_level(self._file, self.num_samples, gain_db)
