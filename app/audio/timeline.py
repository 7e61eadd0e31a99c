"""Decoded frames -> samples where their timestamps say, so that subtitles do not drift."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, BinaryIO

import av
import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from app.errors import UploadTooLarge
from app.transcript import SAMPLE_RATE

# Containers whose clock starts at zero by definition: sound that begins later is preceded by
# silence. Others (MPEG transport streams, Ogg cut out of a live stream) count from anywhere.
ZERO_BASED_FORMATS = {"matroska", "webm", "mov", "mp4", "avi", "asf", "flv"}
MAX_START_OFFSET_S = 3600.0  # beyond it a "start offset" is the clock of a live recording

GAP_TOLERANCE_S = 0.05  # timestamps in milliseconds and lost samples of priming are no gaps
MAX_GAP_S = 3600.0  # beyond it a "gap" is a clock that was set
END_TOLERANCE_S = 10.0  # of a stated duration
BLOCK_SAMPLES = 1 << 16
BYTES_PER_SAMPLE = 4


class SampleFile:
    """16-bit samples on their way to a file of float32; counts them and holds them to limits.

    `stop_after_s`: the caller wants no more than the first so many seconds. `make_room` is told
    how many bytes are written next.
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
        self._pending: list[npt.NDArray[np.int16]] = []
        self._num_pending = 0
        self.num_samples = 0

    @property
    def full(self) -> bool:
        return self._stop_after_s is not None and (
            self.num_samples >= self._stop_after_s * SAMPLE_RATE
        )

    def check_room(self, duration_s: float) -> None:
        """Raises UploadTooLarge where so much more would be over the limit."""
        if self.num_samples / SAMPLE_RATE + duration_s > self._max_duration_s:
            raise UploadTooLarge(
                f"The recording is longer than the limit of {self._max_duration_s:g} seconds."
            )

    def write(self, samples: npt.NDArray[np.int16]) -> None:
        self.check_room(len(samples) / SAMPLE_RATE)
        self._pending.append(samples)
        self._num_pending += len(samples)
        self.num_samples += len(samples)
        if self._num_pending >= BLOCK_SAMPLES:
            self.flush()

    def write_silence(self, num_samples: int) -> None:
        """A hole in the file: hours of silence take no space on the disk."""
        if self._stop_after_s is not None:
            left = int(self._stop_after_s * SAMPLE_RATE) + 1 - self.num_samples
            num_samples = min(num_samples, left)
        self.check_room(num_samples / SAMPLE_RATE)
        self.flush()
        self._file.seek(num_samples * BYTES_PER_SAMPLE, os.SEEK_CUR)
        self.num_samples += num_samples

    def flush(self) -> None:
        if self._pending:
            samples = np.concatenate(self._pending).astype("<f4") / np.float32(32768)
            self._make_room(samples.nbytes)
            self._file.write(samples.tobytes())
            self._pending.clear()
            self._num_pending = 0

    def finish(self) -> None:
        self.flush()
        self._file.truncate(self.num_samples * BYTES_PER_SAMPLE)


class Timeline:
    """Resamples frames and fills what their timestamps leave out with silence.

    Timestamps that run backwards, or far beyond the end of the file, are a broken clock and are
    ignored.
    """

    def __init__(self, container: Any, samples: SampleFile) -> None:
        self._samples = samples
        self._resampler: AudioResampler | None = None
        self._layout: tuple[str, str, int] | None = None
        start_s = (container.start_time or 0) / av.time_base
        names = set(container.format.name.split(","))
        zero_based = bool(names & ZERO_BASED_FORMATS) and 0 <= start_s <= MAX_START_OFFSET_S
        self.origin_s = 0.0 if zero_based else start_s
        stated_s = (container.duration or 0) / av.time_base
        self._latest_s = start_s - self.origin_s + stated_s + END_TOLERANCE_S if stated_s else None
        self.end_s = 0.0  # of what was appended so far, by the samples' own count

    def append(self, frame: AudioFrame) -> None:
        """Raises UploadTooLarge over the limit; FFmpegError, ValueError on what no one can play."""
        duration_s = frame.samples / frame.sample_rate
        self._samples.check_room(duration_s)  # before the resampler makes room for it
        layout = (frame.format.name, frame.layout.name, frame.sample_rate)
        if layout != self._layout:  # a stream may change its format half-way
            self.flush()
            self._layout = layout
        if frame.pts is not None and frame.time_base is not None:
            self._fill_gap(float(frame.pts * frame.time_base) - self.origin_s)
        self.end_s += duration_s
        frame.pts = None  # the resampler would try to keep time by itself
        if self._resampler is None:
            # 16 bits: FFmpeg mixes channels down to floats without lowering them, and stereo
            # clips (matrix normalisation, libswresample/rematrix.c).
            self._resampler = AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
        self._write(self._resampler.resample(frame))

    def _fill_gap(self, start_s: float) -> None:
        gap_s = start_s - self.end_s
        clock_was_set = gap_s > MAX_GAP_S or (
            self._latest_s is not None and start_s > self._latest_s
        )
        if gap_s <= GAP_TOLERANCE_S or clock_was_set:
            return
        self.flush()
        self._samples.write_silence(round(start_s * SAMPLE_RATE) - self._samples.num_samples)
        self.end_s = start_s

    def flush(self) -> None:
        """Write what the resampler still holds."""
        if self._resampler is not None:
            self._write(self._resampler.resample(None))
            self._resampler = None

    def _write(self, resampled: list[AudioFrame]) -> None:
        for frame in resampled:
            samples: npt.NDArray[Any] = frame.to_ndarray()
            self._samples.write(samples.reshape(-1))
