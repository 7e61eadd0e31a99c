"""Whether browsers can play a file, and an MP3 of it if they cannot. Runs in the processes of
`decode_pool.py`.

The MP3 holds what is transcribed: the chosen track, with gaps where the file has them, so that the
times of its words are right.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np

from app.audio.decode import DecodeRequest, decode, is_track, open_media
from app.audio.effort import nothing
from app.audio.ogg import CAPTURE, find_links
from app.audio.tracks import BROKEN_FILE
from app.domain.errors import UndecodableAudio
from app.domain.transcript import SAMPLE_RATE, Samples
from app.storage.tempdir import check_room, told_when_full

# FFmpeg's demuxer and decoder: what browsers call it. They seek well in none but these.
PLAYABLE = {
    ("mp3", "mp3"): "audio/mpeg",
    ("flac", "flac"): "audio/flac",
    ("wav", "pcm_u8"): "audio/wav",
    ("wav", "pcm_s16le"): "audio/wav",
    ("wav", "pcm_s24le"): "audio/wav",
    ("ogg", "vorbis"): "audio/ogg",
    ("ogg", "opus"): "audio/ogg",
    ("mov", "aac"): "audio/mp4",
    ("matroska", "vorbis"): "audio/webm",
    ("matroska", "opus"): "audio/webm",
}
ENCODED = "audio/mpeg"
BIT_RATE = 64_000
BLOCK_SAMPLES = 1 << 16
FREE_CPU_S, CPU_S_PER_SOUND_S = 10.0, 0.05  # for encoding; it takes a hundredth of that


@dataclass(frozen=True, slots=True)
class Playable:
    """`encoded`: the file itself cannot be played, and its MP3 is in `playable_target`."""

    media_type: str
    encoded: bool


def playable_target(request: DecodeRequest) -> Path:
    """The file that receives the MP3. It already exists."""
    return request.target.with_suffix(".mp3")


def make_playable(request: DecodeRequest, limit_cpu: Callable[[float], None] = nothing) -> Playable:
    """What browsers get to hear of a file.

    Raises:
        ServiceError: as `decode`.
    """
    if media_type := browsers_play(request):
        return Playable(media_type, encoded=False)
    num_samples = decode(request, limit_cpu).num_samples
    limit_cpu(time.process_time() + FREE_CPU_S + CPU_S_PER_SOUND_S * num_samples / SAMPLE_RATE)
    samples = np.memmap(request.target, dtype="<f4", mode="r", shape=(num_samples,))
    with told_when_full(), playable_target(request).open("r+b") as target:
        check_room(request.target.parent, _encoded_bytes(num_samples), request.min_free_bytes)
        _encode(samples, target)
    return Playable(ENCODED, encoded=True)


def browsers_play(request: DecodeRequest) -> str:
    """The media type of a file that browsers play as it is; empty for others."""
    try:
        with request.source.open("rb") as source:
            if _is_chained(source):
                return ""
            with open_media(source, request.max_streams) as container:
                return _media_type(container)
    except (UndecodableAudio, *BROKEN_FILE):
        return ""


def _is_chained(source: BinaryIO) -> bool:
    is_ogg = source.read(len(CAPTURE)) == CAPTURE
    return is_ogg and len(list(find_links(source))) > 1


def _media_type(container: Any) -> str:
    tracks = [stream for stream in container.streams if is_track(stream)]
    if len(tracks) != 1 or tracks[0].type != "audio" or not container.duration:
        return ""  # a recording of a browser has no duration: it cannot be sought in
    codec = tracks[0].codec_context.codec.canonical_name
    return PLAYABLE.get((container.format.name.split(",")[0], codec), "")


def _encoded_bytes(num_samples: int) -> int:
    return num_samples * BIT_RATE // (8 * SAMPLE_RATE)


def _encode(samples: Samples, target: BinaryIO) -> None:
    with av.open(target, "w", format="mp3") as container:
        stream = container.add_stream("libmp3lame", rate=SAMPLE_RATE, layout="mono")
        stream.bit_rate = BIT_RATE
        for frame in _frames(samples):
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _frames(samples: Samples) -> Iterator[av.AudioFrame]:
    for begin in range(0, len(samples), BLOCK_SAMPLES):
        block = np.ascontiguousarray(samples[begin : begin + BLOCK_SAMPLES], dtype=np.float32)
        frame = av.AudioFrame.from_ndarray(block[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE, begin
        yield frame
