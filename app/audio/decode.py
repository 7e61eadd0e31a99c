"""Media file -> Audio: any container to mono float32 at 16 kHz, with limits while reading.

Uploads are hostile: see `decode_pool.py` for the processes in which this runs.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from av.audio.frame import AudioFrame

from app.audio.completeness import breaks_off
from app.audio.timeline import SampleFile, Timeline
from app.errors import UndecodableAudio
from app.tempdir import check_room, told_when_full

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

    `stop_after_s`: the caller wants no more than the first so many seconds. `target` exists;
    `min_free_bytes` are left free on its disk. `max_streams`: tracks of any kind.
    """

    source: Path
    target: Path
    max_duration_s: float
    raw_pcm: bool = False
    stop_after_s: float | None = None
    max_streams: int = 100
    min_free_bytes: int = 0


@dataclass(frozen=True, slots=True)
class DecodedFile:
    """`target` holds `num_samples` float32 samples.

    `started`: time.monotonic, which is the same in all processes of a machine.
    """

    num_samples: int
    warnings: tuple[str, ...]
    started: float = 0.0


def decode(request: DecodeRequest) -> DecodedFile:
    """Decode `request.source` into `request.target`. Runs in a worker process.

    Raises:
        UndecodableAudio: nothing in it can be decoded, or there is no sound.
        UploadTooLarge: over the duration limit.
        DiskFull: no room for the samples.
    """
    started = time.monotonic()

    def make_room(num_bytes: int) -> None:
        check_room(request.target.parent, num_bytes, request.min_free_bytes)

    try:
        # "r+": a target that was removed meanwhile, with its request, is not made again.
        with (
            told_when_full(),
            request.source.open("rb") as source,
            request.target.open("r+b") as target,
        ):
            if not source.read(1):
                raise UndecodableAudio(EMPTY)
            source.seek(0)
            samples = SampleFile(target, request.max_duration_s, request.stop_after_s, make_room)
            if request.raw_pcm:
                warnings = _copy_raw(source, samples)
            else:
                warnings = _decode_container(source, samples, request.max_streams)
            samples.finish()
    except BROKEN_FILE:
        raise UndecodableAudio(NOT_MEDIA) from None
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EOVERFLOW):  # a broken header points nowhere
            raise UndecodableAudio(NOT_MEDIA) from None
        raise
    if samples.num_samples == 0:
        raise UndecodableAudio(NOT_MEDIA if warnings else NO_SOUND)
    return DecodedFile(samples.num_samples, tuple(dict.fromkeys(warnings)), started)


def _copy_raw(source: BinaryIO, samples: SampleFile) -> list[str]:
    while not samples.full and (block := source.read(RAW_BLOCK_BYTES)):
        samples.write(np.frombuffer(block, "<i2", count=len(block) // 2))
    return []


def _decode_container(source: BinaryIO, samples: SampleFile, max_streams: int) -> list[str]:
    warnings: list[str] = []
    options = {
        "format_whitelist": MEDIA_FORMATS,
        # No protocol may be opened either: whatever a container refers to stays closed.
        "protocol_whitelist": "none",
        "max_streams": str(max_streams + 1),  # one more, to tell that there are too many
    }
    try:
        container: Any = av.open(
            source, mode="r", metadata_errors="ignore", container_options=options
        )
    except EOFError:
        raise UndecodableAudio(NOT_MEDIA) from None
    with container:
        if len(container.streams) > max_streams:
            raise UndecodableAudio(f"The file has more than {max_streams} tracks.")
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
            except EOFError:  # the end is told twice where a track appears half-way
                continue
            except BROKEN_FILE:
                num_bad += 1
                self._warnings.append(BREAKS_OFF)
