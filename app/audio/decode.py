"""Media file -> Audio: any container to mono float32 at 16 kHz, with limits while reading.

Uploads are hostile, so FFmpeg's code runs in separate processes that hold only this module: a
crash fails one request, a process that takes too long or too much memory is killed. The samples
travel through a file, which the caller maps and unlinks, so that a day of audio costs no memory.
"""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import resource
import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import wait as wait_for_any
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from av.audio.frame import AudioFrame
from pebble import ProcessExpired, ProcessPool

from app.audio.completeness import breaks_off
from app.audio.timeline import SampleFile, Timeline
from app.errors import (
    DeadlineExceeded,
    DiskFull,
    ModelUnavailable,
    ServiceError,
    ShuttingDown,
    StageFailed,
    UndecodableAudio,
)
from app.transcript import Audio

log = logging.getLogger(__name__)

# FFmpeg demuxers of real media containers. Playlists (concat, HLS, DASH, SDP, image sequences) are
# left out: they make FFmpeg open other files and addresses, even when read from a byte stream.
MEDIA_FORMATS = (
    "aac,ac3,adx,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dss,dts,dv,eac3,flac,flv,gsm,iff,"
    "ilbc,ivf,loas,m4v,matroska,mlp,mov,mp3,mpc,mpc8,mpeg,mpegts,mxf,nistsphere,nut,ogg,oma,qcp,"
    "ray,rm,shn,sox,tak,truehd,tta,voc,w64,wav,wsaud,wtv,wv,xwma"
)
RAW_BLOCK_BYTES = 1 << 18
MAX_BAD_PACKETS = 10_000

BREAKS_OFF = "The file is damaged or breaks off: it was transcribed as far as it could be decoded."
EMPTY = "The upload is empty."
NOT_MEDIA = "The upload is not an audio or video file that can be decoded."
NO_TRACK = "The file has no audio track."
NO_SOUND = "The upload has no sound in it."

# What FFmpeg and PyAV raise on files that are broken enough; IndexError: a track begins half-way.
BROKEN_FILE = (av.FFmpegError, ValueError, ArithmeticError, IndexError)


@dataclass(frozen=True, slots=True)
class DecodeRequest:
    """`raw_pcm`: the file is 16 kHz mono signed 16-bit little-endian samples, without a header.

    `stop_after_s`: the caller wants no more than the first so many seconds. `target` exists.
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


def decode(request: DecodeRequest) -> DecodedFile:
    """Decode `request.source` into `request.target`. Runs in a worker process.

    Raises:
        UndecodableAudio: nothing in it can be decoded, or there is no sound.
        UploadTooLarge: over the duration limit.
        DiskFull: no room for the samples.
    """
    try:
        # "r+": a target that was removed meanwhile, with its request, is not made again.
        with request.source.open("rb") as source, request.target.open("r+b") as target:
            if not source.read(1):
                raise UndecodableAudio(EMPTY)
            source.seek(0)
            samples = SampleFile(target, request.max_duration_s, request.stop_after_s)
            if request.raw_pcm:
                warnings = _copy_raw(source, samples)
            else:
                warnings = _decode_container(source, samples)
            samples.finish()
    except BROKEN_FILE:
        raise UndecodableAudio(NOT_MEDIA) from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull("There is no disk space left for the decoded audio.") from None
        if error.errno in (errno.EINVAL, errno.EOVERFLOW):  # a broken header points nowhere
            raise UndecodableAudio(NOT_MEDIA) from None
        raise
    if samples.num_samples == 0:
        raise UndecodableAudio(NOT_MEDIA if warnings else NO_SOUND)
    return DecodedFile(samples.num_samples, tuple(dict.fromkeys(warnings)))


def _copy_raw(source: BinaryIO, samples: SampleFile) -> list[str]:
    while not samples.full and (block := source.read(RAW_BLOCK_BYTES)):
        samples.write(np.frombuffer(block, "<i2", count=len(block) // 2))
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
    except EOFError:
        raise UndecodableAudio(NOT_MEDIA) from None
    with container:
        # without a context: a codec that FFmpeg cannot decode
        tracks = [s for s in container.streams.audio if s.codec_context is not None]
        if not tracks:
            pictures_only = container.streams.video and not container.streams.audio
            raise UndecodableAudio(NO_TRACK if pictures_only else NOT_MEDIA)
        timeline = Timeline(container, samples)
        reader = PacketReader(container, tracks[0], warnings)
        for frame in reader.frames():
            timeline.append(frame)
            if samples.full:
                return warnings
        timeline.flush()
        end_s = max(reader.end_s, timeline.end_s)
        if not warnings and breaks_off(container, tracks[0], source, end_s):
            warnings.append(BREAKS_OFF)
    return warnings


class PacketReader:
    """Reads a container to its end or to where it breaks off."""

    def __init__(self, container: Any, stream: Any, warnings: list[str]) -> None:
        self._container = container
        self._stream = stream
        self._warnings = warnings
        self.end_s = 0.0  # the latest end of any packet, of any stream

    def frames(self) -> Iterator[AudioFrame]:
        """The frames that can be decoded; what cannot be is skipped and noted in the warnings."""
        num_bad = 0
        packets = self._container.demux()
        while num_bad < MAX_BAD_PACKETS:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except BROKEN_FILE:
                self._warnings.append(BREAKS_OFF)
                return
            if packet.pts is not None and packet.time_base is not None:
                end = (packet.pts + (packet.duration or 0)) * packet.time_base
                self.end_s = max(self.end_s, float(end))
            if packet.stream_index != self._stream.index:
                continue
            try:
                yield from self._stream.decode(packet)  # the packet's own may be of another kind
            except BROKEN_FILE:
                num_bad += 1
                self._warnings.append(BREAKS_OFF)


# -- the processes -------------------------------------------------------------------------------


def _start_worker(memory_mb: int) -> None:
    """Start of a worker process."""
    limit = memory_mb << 20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    av.logging.set_level(None)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A service that is killed leaves no process behind that decodes on for nobody.

    Not PR_SET_PDEATHSIG: that is sent when the *thread* that started this process ends.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait_for_any([parent.sentinel])
    os._exit(1)


class DecodePool:
    """A few worker processes that decode, each on one file at a time."""

    def __init__(self, folder: Path, workers: int, timeout_s: float, memory_mb: int) -> None:
        self._folder = folder
        self._workers = workers
        self._timeout_s = timeout_s
        self._memory_mb = memory_mb
        self._lock = threading.Lock()
        self._open: set[Future[Any]] = set()
        self._closed = False
        self._pool = self._new_pool()

    def _new_pool(self) -> ProcessPool:
        return ProcessPool(
            max_workers=self._workers,
            max_tasks=50,  # then a fresh process: what leaks inside FFmpeg does not add up
            context=multiprocessing.get_context("spawn"),
            initializer=_start_worker,
            initargs=(self._memory_mb,),
        )

    def warm_up(self) -> None:
        """Start the processes before the first request needs them."""
        with suppress(ShuttingDown):
            self._schedule(os.getpid)

    def submit(
        self,
        source: Path,
        max_duration_s: float,
        raw_pcm: bool = False,
        stop_after_s: float | None = None,
    ) -> DecodeJob:
        """Raises ShuttingDown, DiskFull."""
        target = self._folder / f"{secrets.token_hex(16)}.f32"
        request = DecodeRequest(source, target, max_duration_s, raw_pcm, stop_after_s)
        try:
            target.touch()
            return DecodeJob(request, self._schedule(decode, request))
        except OSError:
            raise DiskFull("There is no disk space left for the decoded audio.") from None
        except ServiceError:
            target.unlink(missing_ok=True)
            raise

    def _schedule(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        with self._lock:
            if self._closed:
                raise ShuttingDown("The service is shutting down.", retry_after_s=5)
            try:
                future: Future[Any] = self._pool.schedule(
                    function, args=args, timeout=self._timeout_s
                )
            except RuntimeError:
                # pebble gives up for good when an idle process is killed, e.g. for memory
                log.warning("decoding processes died; starting new ones")
                self._pool.join()
                self._pool = self._new_pool()
                future = self._pool.schedule(function, args=args, timeout=self._timeout_s)
            self._open.add(future)
        future.add_done_callback(self._open.discard)
        return future

    def close(self) -> None:
        """Kill the processes. Whoever waits for one is told that the work was cancelled."""
        with self._lock:
            self._closed = True
            for future in list(self._open):
                future.cancel()
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
        except BrokenProcessPool:
            raise ModelUnavailable("Decoding was interrupted; try again.", 1) from None
        except OSError as error:
            raise StageFailed("Decoding failed.") from error
        finally:
            target.unlink(missing_ok=True)
        return Audio(samples=mapped, warnings=decoded.warnings)
