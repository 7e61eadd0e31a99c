"""Places decoded frames at their timestamps, so that subtitles do not drift."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from app.audio.effort import Effort
from app.audio.mixing import Floats, Mixer
from app.audio.samples import SampleFile
from app.domain.errors import UnsupportedOption
from app.domain.transcript import SAMPLE_RATE

# Containers whose clock starts at zero by definition: silence precedes sound that begins later.
# Other clocks (MPEG transport streams, Ogg cut from a live stream) start anywhere.
ZERO_BASED_FORMATS = {"matroska", "webm", "mov", "mp4", "avi", "asf", "flv"}
MAX_START_OFFSET_S = 3600.0  # a larger one is the clock of a live recording

GAP_TOLERANCE_S = 0.05  # millisecond timestamps and lost priming samples are not gaps
MAX_GAP_S = 3600.0  # a larger one is a clock that was set
END_TOLERANCE_S = 10.0  # added to a stated duration
BLOCK_S = 4.0  # mixed at a time
MAX_BLOCK_VALUES = 1 << 21  # over all channels
SAME = 1e-4  # share of the power by which channels with the same sound may differ

# For each sample format: NumPy's type, full scale, and the offset that is subtracted first.
INTEGERS = {
    "u8": ("u1", 128.0, 128.0),
    "s16": ("<i2", 32768.0, 0.0),
    "s32": ("<i4", 2147483648.0, 0.0),
    "s64": ("<i8", 9223372036854775808.0, 0.0),
}
FLOATS = {"flt": "<f4", "dbl": "<f8"}


def to_floats(frame: AudioFrame) -> Floats:
    """float32 (num_channels, num_samples) from a frame of any layout, within -1 to 1.

    Raises ValueError for an unknown sample format.
    """
    name = frame.format.name
    kind, num_channels = name.removesuffix("p"), frame.layout.nb_channels
    integer = INTEGERS.get(kind)
    code = integer[0] if integer else FLOATS.get(kind)
    if code is None:
        raise ValueError(f"unknown sample format {name}")
    planes: Any = frame.planes
    raw: npt.NDArray[Any]
    if frame.format.is_planar:
        raw = np.stack([np.frombuffer(plane, code, count=frame.samples) for plane in planes])
    else:
        packed = np.frombuffer(planes[0], code, count=frame.samples * num_channels)
        raw = packed.reshape(frame.samples, num_channels).T
    samples: Floats = np.array(raw, np.float32, order="C")
    if integer:
        _, full, middle = integer
        samples -= np.float32(middle)
        samples /= np.float32(full)
        return samples
    return np.clip(np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0), -1.0, 1.0)


class Timeline:
    """Collects frames and fills the gaps between their timestamps with silence.

    Timestamps that run backwards or far beyond the end of the file come from a broken clock and are
    ignored.
    """

    def __init__(self, container: Any, outlet: Outlet, clocked: bool) -> None:
        """`clocked`: the timestamps come from the file."""
        self._outlet = outlet
        self._kind: tuple[int, int] | None = None  # channels and rate
        self._pending: list[Floats] = []
        self._num_pending = 0
        start_s = (container.start_time or 0) / av.time_base
        names = set(container.format.name.split(","))
        zero_based = bool(names & ZERO_BASED_FORMATS) and 0 <= start_s <= MAX_START_OFFSET_S
        self._clocked = clocked
        self.origin_s = 0.0 if zero_based else start_s
        stated_s = (container.duration or 0) / av.time_base
        self._latest_s = start_s - self.origin_s + stated_s + END_TOLERANCE_S if stated_s else None
        self._offset_samples = outlet.num_samples  # written before this container
        self.end_s = 0.0  # of the appended frames, counted in samples
        self.num_gaps = 0

    def append(self, frame: AudioFrame) -> None:
        """Raises UploadTooLarge, UndecodableAudio over a limit; FFmpegError, ValueError on an
        unusable frame.
        """
        if not frame.samples:
            return
        rate = frame.sample_rate
        self._outlet.effort.hear(frame.layout.nb_channels, rate, frame.samples)
        duration_s = frame.samples / rate
        kind = (frame.layout.nb_channels, rate)
        if kind != self._kind:  # a stream may change its format midway
            self.flush()
            self._kind = kind
            self._outlet.open(*kind)
        # before memory is allocated for the frame
        self._outlet.check_room(self._num_pending / rate + duration_s)
        if self._clocked and frame.pts is not None and frame.time_base is not None:
            self._fill_gap(float(frame.pts * frame.time_base) - self.origin_s)
        self.end_s += duration_s
        self._pending.append(to_floats(frame))
        self._num_pending += frame.samples
        if self._num_pending >= min(BLOCK_S * rate, MAX_BLOCK_VALUES / kind[0]):
            self._write()

    def _fill_gap(self, start_s: float) -> None:
        gap_s = start_s - self.end_s
        clock_was_set = gap_s > MAX_GAP_S or (
            self._latest_s is not None and start_s > self._latest_s
        )
        if gap_s <= GAP_TOLERANCE_S or clock_was_set:
            return
        self.flush()
        self._outlet.write_silence(
            self._offset_samples + round(start_s * SAMPLE_RATE) - self._outlet.num_samples
        )
        self.end_s = start_s
        self.num_gaps += 1

    def flush(self) -> None:
        """Write everything, including what the resamplers still hold."""
        self._write()
        self._outlet.flush()

    def _write(self) -> None:
        if self._pending:
            block = np.concatenate(self._pending, axis=1)
            self._pending.clear()
            self._num_pending = 0
            self._outlet.write(block)


class Outlet:
    """Resamples the blocks of a stream and writes one mixed file, or one file per channel."""

    def __init__(self, files: Sequence[SampleFile], effort: Effort) -> None:
        """`files`: one to mix all channels, or one for each possible channel."""
        self._files = files
        self.effort = effort
        self._mixer = Mixer(1, SAMPLE_RATE)
        self._rate = SAMPLE_RATE
        self._resamplers: list[AudioResampler] = []
        self._differences = np.zeros(len(files))
        self._power = 0.0
        self.num_channels = 1

    @property
    def num_samples(self) -> int:
        return self._files[0].num_samples

    @property
    def num_silent(self) -> int:
        return min(file.num_silent for file in self._files[: self.num_channels])

    @property
    def full(self) -> bool:
        return self._files[0].full

    @property
    def all_the_same(self) -> bool:
        """Whether all channels carry the same sound, so they are not the parties of a call."""
        differences = self._differences[: self.num_channels]
        return self.num_channels > 1 and bool((differences <= SAME * self._power).all())

    def open(self, num_channels: int, rate: int) -> None:
        """Set the format of the blocks that follow. Raises UnsupportedOption: too many channels."""
        separate = len(self._files) > 1
        if separate and num_channels > len(self._files):
            raise UnsupportedOption(
                f"speakers: at most {len(self._files)} channels can be split; the recording has "
                f"{num_channels}."
            )
        self._rate = rate
        self._mixer = Mixer(num_channels, rate)
        if separate:
            self.num_channels = max(self.num_channels, num_channels)

    def check_room(self, duration_s: float) -> None:
        self._files[0].check_room(duration_s)

    def write_silence(self, num_samples: int) -> None:
        self._files[0].write_silence(num_samples)

    def write(self, block: Floats) -> None:
        """float32 (num_channels, num_samples)."""
        if len(self._files) == 1:
            block = self._mixer.mix(block)[None]
        else:
            self._compare(block)
        if not self._resamplers and self._rate != SAMPLE_RATE:
            self._resamplers = [
                AudioResampler(format="fltp", layout="mono", rate=SAMPLE_RATE) for _ in block
            ]
        if not self._resamplers:
            self._pass_on(block)
            return
        parts = []
        for resampler, channel in zip(self._resamplers, block, strict=True):
            frame = AudioFrame.from_ndarray(channel[None], format="fltp", layout="mono")
            frame.sample_rate = self._rate
            parts.append(_joined(resampler.resample(frame)))
        self._pass_on(parts)

    def flush(self) -> None:
        """Write what the resamplers still hold."""
        if self._resamplers:
            self._pass_on([_joined(resampler.resample(None)) for resampler in self._resamplers])
            self._resamplers = []

    def finish(self) -> None:
        for file in self._files[: self.num_channels]:
            file.write_silence(self.num_samples - file.num_samples)
            file.finish()

    def _pass_on(self, channels: Sequence[Floats] | Floats) -> None:
        before = self.num_samples
        for file, samples in zip(self._files, channels, strict=False):
            file.write_silence(before - file.num_samples)  # while this channel was missing
            file.write(samples)

    def _compare(self, block: Floats) -> None:
        self._power += float(np.square(block[0]).sum(dtype=np.float64))
        others = np.square(block - block[0]).sum(axis=1, dtype=np.float64)
        self._differences[: len(block)] += others


def _joined(frames: Sequence[AudioFrame]) -> Floats:
    parts = [frame.to_ndarray().reshape(-1) for frame in frames]
    joined: Floats = np.concatenate(parts) if parts else np.empty(0, np.float32)
    return joined
