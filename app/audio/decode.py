"""Decodes any media file to mono float32 at 16 kHz and enforces limits while it reads.

Uploads are hostile, so this runs in the processes of `decode_pool.py`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from av.stream import Disposition

from app.audio.completeness import breaks_off
from app.audio.effort import Effort, nothing
from app.audio.ogg import CAPTURE, Section, find_links
from app.audio.packets import PacketReader
from app.audio.samples import SampleFile
from app.audio.timeline import ZERO_BASED_FORMATS, Outlet, Timeline
from app.audio.tracks import (
    ASIDE_SHARE,
    BROKEN_FILE,
    Listeners,
    audio_tracks,
    candidates,
    first_with_sound,
)
from app.domain.errors import TooCostly, UndecodableAudio, UnsupportedOption
from app.domain.warnings import TranscriptWarning
from app.storage.tempdir import check_room, told_when_full

# FFmpeg demuxers of real media containers. No playlists (concat, HLS, DASH, SDP, image sequences):
# they make FFmpeg open other files and addresses, even when read from a byte stream.
MEDIA_FORMATS = (
    "aac,ac3,adx,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dss,dts,dv,eac3,flac,flv,gsm,iff,"
    "ilbc,ivf,loas,m4v,matroska,mlp,mov,mp3,mpc,mpc8,mpeg,mpegts,mxf,nistsphere,nut,ogg,oma,qcp,"
    "ray,rm,shn,sox,tak,truehd,tta,voc,w64,wav,wsaud,wtv,wv,xwma"
)
# Containers with their own timestamps. In bare streams (ADTS, MP3, AC-3) FFmpeg counts the time
# itself, and miscounts if the stream changes.
CLOCKED_FORMATS = ZERO_BASED_FORMATS | {
    "dv", "ivf", "mpeg", "mpegts", "mxf", "nut", "ogg", "rm", "wtv",
}  # fmt: skip
RAW_BLOCK_BYTES = 1 << 18
FLAC_HEAD_BYTES = 1 << 16  # tags and a picture may come before "fLaC"
MAX_ATTACHMENTS = 1000  # fonts and pictures, which are not tracks
MAX_CHANNELS = 8  # that can be split

# Fixed ASCII sentences, because a header carries them.
EMPTY = "The upload is empty."
NOT_MEDIA = "The upload is not an audio or video file that can be decoded."
NO_TRACK = "The file has no audio track."
NO_SOUND = "The upload has no sound in it."


@dataclass(frozen=True, slots=True)
class DecodeRequest:
    """One file to decode.

    `target` must exist; `min_free_bytes` stay free on its disk. `raw_pcm`: the file holds 16 kHz
    mono signed 16-bit little-endian samples, without a header. `stop_after_s`: decode only this
    many seconds. `max_streams` limits the tracks of any kind. `audio_track` selects an audio track
    by index or language; empty selects the best. `split_channels` writes each channel to its own
    file, see `channel_targets`.
    """

    source: Path
    target: Path
    max_duration_s: float
    raw_pcm: bool = False
    stop_after_s: float | None = None
    max_streams: int = 100
    min_free_bytes: int = 0
    audio_track: str = ""
    split_channels: bool = False


@dataclass(frozen=True, slots=True)
class DecodedFile:
    """The first `num_channels` of the request's targets hold `num_samples` float32 samples each.

    `num_silent`: samples that the file lacks or that are zero in it, in runs of seconds.
    """

    num_samples: int
    warnings: tuple[TranscriptWarning, ...]
    num_channels: int = 1
    num_silent: int = 0


def channel_targets(request: DecodeRequest) -> list[Path]:
    """The files that receive the samples. They already exist."""
    if not request.split_channels:
        return [request.target]
    return [request.target.with_suffix(f".{i}.f32") for i in range(MAX_CHANNELS)]


def decode(request: DecodeRequest, limit_cpu: Callable[[float], None] = nothing) -> DecodedFile:
    """Decode `request.source` into `request.target`. Runs in a worker process.

    `limit_cpu`: see `Effort`.

    Raises:
        UndecodableAudio: the file cannot be decoded, has no sound, or takes far too much work.
        UploadTooLarge: over the duration limit.
        UnsupportedOption: no such track, or too many channels to split.
        DiskFull: no disk space for the samples.
    """
    try:
        with ExitStack() as files:
            files.enter_context(told_when_full())
            source = files.enter_context(request.source.open("rb"))
            effort = Effort(os.fstat(source.fileno()).st_size, limit_cpu)

            def make_room(num_bytes: int) -> None:
                effort.write(num_bytes)
                check_room(request.target.parent, num_bytes, request.min_free_bytes)

            # "r+" does not recreate a target that was removed because its request ended.
            targets = [files.enter_context(path.open("r+b")) for path in channel_targets(request)]
            if not source.read(1):
                raise UndecodableAudio(EMPTY)
            source.seek(0)
            outlet = Outlet(
                [
                    SampleFile(target, request.max_duration_s, request.stop_after_s, make_room)
                    for target in targets
                ],
                effort,
            )
            decoding = _copy_raw if request.raw_pcm else _decode_file
            warnings = decoding(request, source, outlet)
            outlet.finish()
    except BROKEN_FILE:
        raise UndecodableAudio(NOT_MEDIA) from None
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EOVERFLOW):  # a broken header's offset
            raise UndecodableAudio(NOT_MEDIA) from None
        raise
    if outlet.num_samples == 0:
        raise UndecodableAudio(NOT_MEDIA if warnings else NO_SOUND)
    num_channels = outlet.num_channels
    if outlet.all_the_same:
        num_channels = 1
        warnings.append(TranscriptWarning.SAME_CHANNELS)
    elif request.split_channels and num_channels == 1:
        warnings.append(TranscriptWarning.ONE_CHANNEL)
    unique = tuple(dict.fromkeys(warnings))
    return DecodedFile(outlet.num_samples, unique, num_channels, outlet.num_silent)


def _copy_raw(request: DecodeRequest, source: BinaryIO, outlet: Outlet) -> list[TranscriptWarning]:
    if request.audio_track.strip("0"):
        raise UnsupportedOption("audio_track: raw PCM has one track, 0.")
    while not outlet.full and (block := source.read(RAW_BLOCK_BYTES)):
        samples = np.frombuffer(block, "<i2", count=len(block) // 2)
        outlet.write(samples.astype(np.float32)[None] / np.float32(32768))
    return []


def _decode_file(
    request: DecodeRequest, source: BinaryIO, outlet: Outlet
) -> list[TranscriptWarning]:
    if source.read(len(CAPTURE)) != CAPTURE:
        source.seek(0)
        return _decode_container(request, source, outlet)
    warnings: list[TranscriptWarning] = []
    for link in find_links(source):
        section: Any = Section(source, link.begin, link.end)
        try:
            warnings += _decode_container(request, section, outlet)
        except TooCostly:
            raise
        except (UndecodableAudio, *BROKEN_FILE):
            if not outlet.num_samples:
                raise
            warnings.append(TranscriptWarning.BREAKS_OFF)
        if outlet.full:
            return warnings
        if link.damaged:
            warnings.append(TranscriptWarning.BREAKS_OFF)
    return warnings


def open_media(source: BinaryIO, max_streams: int) -> Any:
    """The container of a file. Raises UndecodableAudio or one of BROKEN_FILE."""
    source.seek(0)
    options = {
        "format_whitelist": MEDIA_FORMATS,
        # Blocks protocols too, so that a container cannot open what it refers to.
        "protocol_whitelist": "none",
        "max_streams": str(max_streams + MAX_ATTACHMENTS),
    }
    try:
        return av.open(source, mode="r", metadata_errors="ignore", container_options=options)
    except EOFError:
        raise UndecodableAudio(NOT_MEDIA) from None


def is_track(stream: Any) -> bool:
    """Whether a stream is one that plays: not a font, nor a cover."""
    return stream.type != "attachment" and not stream.disposition & Disposition.attached_pic


def _decode_container(
    request: DecodeRequest, source: BinaryIO, outlet: Outlet
) -> list[TranscriptWarning]:
    """The warnings of one container, which is decoded into `outlet`."""
    index, others_have_sound = None, False
    with open_media(source, request.max_streams) as container:
        chosen = _choose(container, request)
        if len(chosen) == 1 or request.audio_track.isdigit():
            return _play(container, chosen[0], chosen[:1], source, outlet)
        place, others_have_sound = first_with_sound(container, chosen, outlet.effort.check)
        index = chosen[place].index
    with open_media(source, request.max_streams) as container:
        tracks = _choose(container, request)
        track = next((track for track in tracks if track.index == index), tracks[0])
        warnings = _play(container, track, tracks, source, outlet)
    if others_have_sound:
        warnings.append(TranscriptWarning.OTHER_TRACKS)
    return warnings


def _choose(container: Any, request: DecodeRequest) -> list[Any]:
    """The tracks that match the request, best first."""
    if sum(map(is_track, container.streams)) > request.max_streams:
        raise UndecodableAudio(f"The file has more than {request.max_streams} tracks.")
    tracks = audio_tracks(container)
    chosen = candidates(tracks, request.audio_track)
    if not chosen:
        pictures_only = container.streams.video and not tracks
        raise UndecodableAudio(NO_TRACK if pictures_only else NOT_MEDIA)
    return chosen


def _play(
    container: Any, track: Any, tracks: list[Any], source: BinaryIO, outlet: Outlet
) -> list[TranscriptWarning]:
    """The warnings of one of the `tracks`, which is decoded. The others are checked for sound."""
    warnings: list[TranscriptWarning] = []
    timeline = Timeline(container, outlet, _has_clock(container, source))
    if track.codec_context.name == "flac":  # else frames with a bad checksum play as noise
        track.codec_context.options = {"err_detect": "crccheck+explode"}
    others = Listeners([other for other in tracks if other is not track], ASIDE_SHARE)
    reader = PacketReader(container, track, others, warnings, outlet.effort.check)
    for frame in reader.frames():
        timeline.append(frame)
        if outlet.full:
            return warnings
    timeline.flush()
    end_s = max(reader.end_s, timeline.end_s)
    has_hole = container.format.name == "flac" and timeline.num_gaps > 0
    if not warnings and (has_hole or breaks_off(container, track, source, end_s)):
        warnings.append(TranscriptWarning.BREAKS_OFF)
    if others.any_sound:
        warnings.append(TranscriptWarning.OTHER_TRACKS)
    return warnings


def _has_clock(container: Any, source: BinaryIO) -> bool:
    if container.format.name == "flac":  # frames are numbered; bare streams may start anywhere
        position = source.tell()  # FFmpeg continues there
        source.seek(0)
        head = source.read(FLAC_HEAD_BYTES)
        source.seek(position)
        return b"fLaC" in head
    return bool(CLOCKED_FORMATS & set(container.format.name.split(",")))
