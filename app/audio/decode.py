"""Media file -> Audio: any container to mono float32 at 16 kHz, with limits while reading.

Uploads are hostile, so FFmpeg's code runs in separate processes that hold only this module: a
crash fails one request, a process that takes too long or too much memory is killed. The samples
travel through a file, which the caller maps and unlinks, so that a day of audio costs no memory.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import resource
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from pebble import ProcessExpired, ProcessPool

from app.errors import (
    DeadlineExceeded,
    DiskFull,
    ServiceError,
    StageFailed,
    UndecodableAudio,
    UploadTooLarge,
)
from app.transcript import SAMPLE_RATE, Audio

# FFmpeg demuxers of real media containers. Playlists (concat, HLS, DASH, SDP, image sequences) are
# left out: they make FFmpeg open other files and addresses, even when read from a byte stream.
MEDIA_FORMATS = (
    "aac,ac3,adx,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dts,dv,eac3,flac,flv,gsm,iff,"
    "ivf,loas,m4v,matroska,mlp,mov,mp3,mpc,mpc8,mpeg,mpegts,mxf,nut,ogg,oma,ray,rm,shn,sox,tak,"
    "truehd,tta,voc,w64,wav,wsaud,wtv,wv,xwma"
)
# Containers whose clock starts at zero by definition: sound that begins later is preceded by
# silence. Others (MPEG transport streams, Ogg cut out of a live stream) count from anywhere.
ZERO_BASED_FORMATS = {"matroska", "webm", "mov", "mp4", "avi", "asf", "flv"}
MAX_START_OFFSET_S = 3600.0  # beyond it a "start offset" is the clock of a live recording

GAP_TOLERANCE_S = 0.05  # timestamps in milliseconds and lost samples of priming are no gaps
BLOCK_SAMPLES = 1 << 18
RAW_BLOCK_BYTES = 2 * BLOCK_SAMPLES
MAX_BAD_PACKETS = 10_000

BREAKS_OFF = "The file is damaged or breaks off: it was transcribed as far as it could be decoded."
SHORTER_THAN_STATED = (
    "The file ends before its stated duration: it was transcribed as far as it goes."
)
NOT_MEDIA = "The upload is not an audio or video file that can be decoded."
NO_SOUND = "The upload has no sound in it."


@dataclass(frozen=True, slots=True)
class DecodeRequest:
    """`raw_pcm`: the file is 16 kHz mono signed 16-bit little-endian samples, without a header.

    `stop_after_s`: the caller wants no more than the first so many seconds.
    """

    source: Path
    target: Path
    max_duration_s: float
    raw_pcm: bool = False
    stop_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class DecodedFile:
    """`target` holds `num_samples` float32 samples."""

    num_samples: int
    warnings: tuple[str, ...]


class SampleFile:
    """Float32 samples on their way to a file; knows where on the time line it stands."""

    def __init__(self, file: BinaryIO, request: DecodeRequest) -> None:
        self._file = file
        self._max_samples = int(request.max_duration_s * SAMPLE_RATE)
        self._max_duration_s = request.max_duration_s
        self._stop_after = (
            None if request.stop_after_s is None else int(request.stop_after_s * SAMPLE_RATE)
        )
        self.num_samples = 0

    @property
    def full(self) -> bool:
        return self._stop_after is not None and self.num_samples >= self._stop_after

    def write(self, samples: npt.NDArray[Any]) -> None:
        if self.num_samples + len(samples) > self._max_samples:
            raise UploadTooLarge(
                f"The recording is longer than the limit of {self._max_duration_s:g} seconds."
            )
        # A broken float stream may hold anything; NaN would poison every model downstream.
        clean = np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0).clip(-1.0, 1.0)
        self._file.write(clean.astype("<f4", copy=False).tobytes())
        self.num_samples += len(samples)

    def write_silence(self, num_samples: int) -> None:
        while num_samples > 0 and not self.full:
            block = min(num_samples, BLOCK_SAMPLES)
            self.write(np.zeros(block, np.float32))
            num_samples -= block


def decode(request: DecodeRequest) -> DecodedFile:
    """Decode `request.source` into `request.target`. Runs in a worker process.

    Raises:
        UndecodableAudio: nothing in it can be decoded, or there is no sound.
        UploadTooLarge: over the duration limit.
        DiskFull: no room for the samples.
    """
    try:
        with request.source.open("rb") as source, request.target.open("wb") as target:
            samples = SampleFile(target, request)
            if request.raw_pcm:
                warnings = _copy_raw(source, samples)
            else:
                warnings = _decode_container(source, samples)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull("There is no disk space left for the decoded audio.") from None
        raise
    if samples.num_samples == 0:
        raise UndecodableAudio(NO_SOUND)
    return DecodedFile(samples.num_samples, tuple(dict.fromkeys(warnings)))


def _copy_raw(source: BinaryIO, samples: SampleFile) -> list[str]:
    while (block := source.read(RAW_BLOCK_BYTES)) and not samples.full:
        whole = len(block) - len(block) % 2
        samples.write(np.frombuffer(block[:whole], "<i2").astype(np.float32) / 32768)
    return []


def _decode_container(source: BinaryIO, samples: SampleFile) -> list[str]:
    warnings: list[str] = []
    try:
        # No protocol may be opened either: whatever a container refers to stays closed.
        container: Any = av.open(
            source,
            mode="r",
            metadata_errors="ignore",
            container_options={"format_whitelist": MEDIA_FORMATS, "protocol_whitelist": "none"},
        )
    except (av.FFmpegError, ValueError, EOFError):
        raise UndecodableAudio(NOT_MEDIA) from None
    with container:
        stream = next(iter(container.streams.audio), None)
        if stream is None:
            raise UndecodableAudio("The file has no audio track.")
        timeline = Timeline(container, samples)
        for frame in _frames(container, stream, warnings):
            timeline.append(frame)
            if samples.full:
                return warnings
        timeline.flush()
        if samples.num_samples == 0 and warnings:
            raise UndecodableAudio(NOT_MEDIA)
        if not warnings and (timeline.ends_early(stream) or _ogg_breaks_off(container, source)):
            warnings.append(SHORTER_THAN_STATED)
    return warnings


def _frames(container: Any, stream: Any, warnings: list[str]) -> Iterator[AudioFrame]:
    """The frames that can be decoded; what cannot be is skipped and noted in `warnings`."""
    num_bad = 0
    packets = container.demux(stream)
    while num_bad < MAX_BAD_PACKETS:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except (av.FFmpegError, ValueError):
            warnings.append(BREAKS_OFF)
            return
        try:
            yield from packet.decode()
        except (av.FFmpegError, ValueError):
            num_bad += 1
            warnings.append(BREAKS_OFF)


class Timeline:
    """Puts frames where their timestamps say, so that subtitles do not drift.

    A start offset and gaps between timestamps become silence. Timestamps that run backwards, or
    far beyond the end of the file, are a broken clock and are ignored.
    """

    def __init__(self, container: Any, samples: SampleFile) -> None:
        self._samples = samples
        self._resampler: AudioResampler | None = None
        self._layout: tuple[str, str, int] | None = None
        start_s = (container.start_time or 0) / av.time_base
        names = set(container.format.name.split(","))
        zero_based = bool(names & ZERO_BASED_FORMATS) and 0 <= start_s <= MAX_START_OFFSET_S
        self._origin_s = 0.0 if zero_based else start_s
        self._stated_s = (container.duration or 0) / av.time_base
        self._end_s: float | None = None  # of what was appended so far, by the samples' own count

    def append(self, frame: AudioFrame) -> None:
        layout = (frame.format.name, frame.layout.name, frame.sample_rate)
        if layout != self._layout:  # a stream may change its format half-way
            self.flush()
            self._layout = layout
            self._resampler = AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
        if frame.pts is not None and frame.time_base is not None:
            self._fill_gap(float(frame.pts * frame.time_base) - self._origin_s)
        self._end_s = (self._end_s or 0.0) + frame.samples / frame.sample_rate
        frame.pts = None  # the resampler would try to keep time by itself
        assert self._resampler is not None
        for resampled in self._resampler.resample(frame):
            self._samples.write(resampled.to_ndarray().reshape(-1))

    def _fill_gap(self, start_s: float) -> None:
        gap_s = start_s - (self._end_s or 0.0)
        beyond_end = self._stated_s > 0 and start_s > self._stated_s + self._origin_s + 10
        if gap_s <= GAP_TOLERANCE_S or beyond_end:
            return
        self.flush()
        self._resampler = AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
        self._samples.write_silence(round(start_s * SAMPLE_RATE) - self._samples.num_samples)
        self._end_s = start_s

    def flush(self) -> None:
        """Write what the resampler still holds."""
        if self._resampler is None:
            return
        for resampled in self._resampler.resample(None):
            self._samples.write(resampled.to_ndarray().reshape(-1))
        self._resampler = None

    def ends_early(self, stream: Any) -> bool:
        """Whether the file states a duration that it does not have."""
        stated_s: float = self._stated_s
        if stream.duration and stream.time_base:
            stated_s = float(stream.duration * stream.time_base)
        return stated_s > 1.03 * (self._end_s or 0.0) + 0.3


def _ogg_breaks_off(container: Any, source: BinaryIO) -> bool:
    """Whether an Ogg file lacks its last page, which is marked "end of stream" (RFC 3533)."""
    if container.format.name != "ogg":
        return False
    size = source.seek(0, os.SEEK_END)
    source.seek(max(0, size - 70_000))
    tail = source.read()
    page = tail.rfind(b"OggS")
    return page >= 0 and (len(tail) < page + 6 or not tail[page + 5] & 0x04)


def _limit_process(memory_mb: int) -> None:
    """Start of a worker process."""
    limit = memory_mb << 20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    av.logging.set_level(None)


class DecodePool:
    """A few worker processes that decode, each on one file at a time."""

    def __init__(self, folder: Path, workers: int, timeout_s: float, memory_mb: int) -> None:
        self._folder = folder
        self._timeout_s = timeout_s
        self._pool = ProcessPool(
            max_workers=workers,
            max_tasks=50,  # then a fresh process: what leaks inside FFmpeg does not add up
            context=multiprocessing.get_context("spawn"),
            initializer=_limit_process,
            initargs=(memory_mb,),
        )

    def warm_up(self) -> None:
        """Start the processes before the first request needs them."""
        self._pool.schedule(os.getpid)

    def submit(
        self,
        source: Path,
        max_duration_s: float,
        raw_pcm: bool = False,
        stop_after_s: float | None = None,
    ) -> DecodeJob:
        target = self._folder / f"{secrets.token_hex(16)}.f32"
        request = DecodeRequest(source, target, max_duration_s, raw_pcm, stop_after_s)
        future = self._pool.schedule(decode, args=(request,), timeout=self._timeout_s)
        return DecodeJob(request, future)

    def close(self) -> None:
        self._pool.stop()
        self._pool.join()


class DecodeJob:
    """One file on its way through the pool."""

    def __init__(self, request: DecodeRequest, future: Future[DecodedFile]) -> None:
        self._request = request
        self.future = future  # cancel it to kill the process that works on it

    def audio(self, wait: Callable[[Future[DecodedFile]], DecodedFile]) -> Audio:
        """The samples, once `wait` has waited for the future. They live as long as the Audio.

        Raises:
            ServiceError: as `decode`; DeadlineExceeded where it took too long.
        """
        target = self._request.target
        try:
            decoded = wait(self.future)
            mapped = np.memmap(target, dtype="<f4", mode="r", shape=(decoded.num_samples,))
        except ServiceError:
            raise
        except TimeoutError:
            raise DeadlineExceeded("Decoding the file took longer than it may.") from None
        except (ProcessExpired, MemoryError):
            # FFmpeg crashed on it or took too much memory.
            raise UndecodableAudio(NOT_MEDIA) from None
        except (OSError, av.FFmpegError, ValueError) as error:
            raise StageFailed("Decoding failed.") from error
        finally:
            target.unlink(missing_ok=True)
        return Audio(samples=mapped, warnings=decoded.warnings)
