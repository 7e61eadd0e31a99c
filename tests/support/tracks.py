"""Files with several tracks, and WAVE files byte by byte."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.stream import Disposition

from tests.support.media import Samples


@dataclass(frozen=True)
class Track:
    samples: Samples
    disposition: int = 0
    language: str = ""


def tracks_file(
    container: str, codec: str, tracks: Sequence[Track], fonts: int = 0, rate: int = 48_000
) -> bytes:
    file = BytesIO()
    with av.open(file, "w", format=container) as output:
        streams: list[Any] = []
        for track in tracks:
            stream: Any = output.add_stream(codec, rate=rate, layout="mono")
            stream.disposition = Disposition(track.disposition)
            if track.language:
                stream.metadata["language"] = track.language
            streams.append(stream)
        for i in range(fonts):
            output.add_attachment(f"{i}.ttf", "application/x-truetype-font", bytes(100))
        packets: list[Any] = []
        for stream, track in zip(streams, tracks, strict=True):
            packets += packets_of(stream, track.samples, rate)
        packets.sort(key=lambda packet: float((packet.dts or 0) * packet.time_base))
        for packet in packets:
            output.mux(packet)
    return file.getvalue()


def wav(channels: Sequence[Samples], mask: int = 0, rate: int = 16_000) -> bytes:
    """Of any number of channels. `mask`: what WAVE_FORMAT_EXTENSIBLE calls them."""
    data = np.stack(channels, axis=1).astype("<f4").tobytes()
    num, width = len(channels), 4
    guid = struct.pack("<IHH", 3, 0, 0x10) + bytes.fromhex("800000aa00389b71")
    fmt = struct.pack("<HHIIHH", 0xFFFE, num, rate, rate * num * width, num * width, 32)
    fmt += struct.pack("<HHI", 22, 32, mask) + guid
    body = b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt + b"data" + struct.pack("<I", len(data))
    return b"RIFF" + struct.pack("<I", len(body) + len(data)) + body + data


def packets_of(stream: Any, samples: Samples, rate: int) -> list[Any]:
    packets = []
    context = stream.codec_context
    resampler = av.AudioResampler(context.format.name, "mono", rate)
    frame = AudioFrame.from_ndarray(samples.reshape(1, -1), format="flt", layout="mono")
    frame.sample_rate = 16_000
    fifo = av.AudioFifo()
    for part in [*resampler.resample(frame), *resampler.resample(None)]:
        part.pts = None
        fifo.write(part)
    position, size = 0, context.frame_size or 1024
    while (block := fifo.read(size)) or (block := fifo.read(0, partial=True)):
        block.pts, block.time_base = position, Fraction(1, rate)
        position += block.samples
        packets += stream.encode(block)
    return packets + list(stream.encode(None))
