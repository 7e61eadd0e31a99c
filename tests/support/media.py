"""Media files of every kind, written with PyAV from the test conversations or from thin air."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from tests.support.truth import audio_of

Samples = npt.NDArray[np.float32]
VIDEO_RATE = 10  # frames per second


@dataclass(frozen=True)
class Media:
    """How a file is written. `video`: codec of a picture track from 0 s to `video_s`."""

    container: str
    codec: str
    rate: int = 16_000
    layout: str = "mono"
    bit_rate: int = 0
    video: str = ""
    video_s: float | None = None
    options: tuple[tuple[str, str], ...] = ()  # of the muxer


FASTSTART = (("movflags", "faststart"),)
FORMATS = {
    "wav": Media("wav", "pcm_s16le"),
    "wav of 24 bits, stereo": Media("wav", "pcm_s24le", 48_000, "stereo"),
    "wav of floats, 5.1": Media("wav", "pcm_f32le", 48_000, "5.1"),
    "wav from the telephone": Media("wav", "pcm_s16le", 8_000),
    "wav mu-law": Media("wav", "pcm_mulaw", 8_000),
    "mp3": Media("mp3", "libmp3lame", 44_100),
    "mp3 without header": Media("mp3", "libmp3lame", 44_100, options=(("write_xing", "0"),)),
    "flac": Media("flac", "flac", 44_100),
    "ogg opus": Media("ogg", "libopus", 48_000),
    "ogg vorbis": Media("ogg", "vorbis", 44_100, "stereo", 128_000),
    "m4a": Media("mp4", "aac", 44_100, options=FASTSTART),
    "m4a, index last": Media("mp4", "aac", 44_100),
    "aac": Media("adts", "aac", 44_100),
    "webm": Media("webm", "libopus", 48_000),
    "wma": Media("asf", "wmav2", 44_100, "stereo", 64_000),
    "amr": Media("amr", "libopencore_amrnb", 8_000, bit_rate=12_200),
    "3gp": Media("3gp", "libopencore_amrnb", 8_000, "mono", 12_200, options=FASTSTART),
    "aiff": Media("aiff", "pcm_s16be", 44_100),
    "mp4 with video": Media("mp4", "aac", 48_000, "stereo", video="mpeg4", options=FASTSTART),
    "mov with video": Media("mov", "aac", 44_100, video="mpeg4", options=FASTSTART),
    "avi with video": Media("avi", "libmp3lame", 44_100, video="mpeg4"),
    "mkv with video": Media("matroska", "libopus", 48_000, video="mpeg4"),
    "transport stream": Media("mpegts", "aac", 48_000, video="mpeg2video"),
}

# Seconds of silence that a codec puts first where no header says so: half of the files of this
# kind have it, and every player plays it.
PRIMING_S = {
    "mp3 without header": 1105 / 44_100,
    "avi with video": 1105 / 44_100,
    "aac": 1024 / 44_100,
    "transport stream": 1024 / 48_000,
    "wma": 2048 / 44_100,
}


def speech(name: str) -> Samples:
    """A conversation's samples: float32, mono, 16 kHz."""
    with av.open(str(audio_of(name))) as container:
        frames = [frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]
    return (np.concatenate(frames) / 32768).astype(np.float32)


def encode(media: Media, *pieces: tuple[float, Samples]) -> bytes:
    """A file with each piece of 16 kHz sound at its time."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        _write(path, media, pieces)
        return path.read_bytes()


def _write(path: Path, media: Media, pieces: Sequence[tuple[float, Samples]]) -> None:
    options = dict(media.options)
    with av.open(str(path), "w", format=media.container, options=options) as container:
        picture: Any = None
        if media.video:
            picture = container.add_stream(media.video, rate=VIDEO_RATE)
            picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        sound: Any = container.add_stream(media.codec, rate=media.rate, layout=media.layout)
        sound.options = {"strict": "experimental"}  # FFmpeg's own Vorbis encoder
        if media.bit_rate:
            sound.bit_rate = media.bit_rate
        packets: list[Any] = []
        if picture is not None:
            end_s = max(start_s + len(samples) / 16_000 for start_s, samples in pieces)
            packets += _pictures(picture, end_s if media.video_s is None else media.video_s)
        packets += _sounds(sound, media, pieces)
        if picture is not None:  # the muxer wants to see both before it writes its header
            packets.sort(key=lambda packet: float((packet.dts or 0) * packet.time_base))
        for packet in packets:
            container.mux(packet)


def _pictures(stream: Any, duration_s: float) -> list[Any]:
    packets = []
    for index in range(round(duration_s * VIDEO_RATE)):
        frame = av.VideoFrame(64, 48, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes([(index * 3) % 256]) * plane.buffer_size)
        frame.pts, frame.time_base = index, Fraction(1, VIDEO_RATE)
        packets += stream.encode(frame)
    return packets + list(stream.encode(None))


def _sounds(stream: Any, media: Media, pieces: Iterable[tuple[float, Samples]]) -> list[Any]:
    packets = []
    context = stream.codec_context
    for start_s, samples in pieces:
        resampler = AudioResampler(context.format.name, media.layout, media.rate, 0)
        frame = AudioFrame.from_ndarray(samples.reshape(1, -1), format="flt", layout="mono")
        frame.sample_rate = 16_000
        position = round(start_s * media.rate)
        size = context.frame_size or 1024
        fifo = av.AudioFifo()
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            part.pts = None
            fifo.write(part)
        while (block := fifo.read(size)) or (block := fifo.read(0, partial=True)):
            block.pts, block.time_base = position, Fraction(1, media.rate)
            position += block.samples
            packets += stream.encode(block)
    return packets + list(stream.encode(None))


def found_at_s(part: Samples, whole: Samples) -> float:
    """Where in the whole the part fits best, by cross-correlation."""
    size = 1 << (len(whole) + len(part)).bit_length()
    spectrum = np.fft.rfft(whole, size) * np.conj(np.fft.rfft(part, size))
    return int(np.argmax(np.fft.irfft(spectrum, size)[: len(whole)])) / 16_000


def samples_of(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        frames = [f.to_ndarray().reshape(-1) for f in container.decode(audio=0)]
    return np.concatenate(frames).astype(np.float32) / 32768
