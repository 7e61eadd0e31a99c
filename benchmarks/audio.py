"""The recordings of a run: test conversations repeated to any length, and clips cut from them."""

from __future__ import annotations

import io
import random
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import av
import numpy as np
from faster_whisper import decode_audio

from app.domain.transcript import SAMPLE_RATE, Samples

DATA = Path(__file__).parent.parent / "tests" / "data"
LONGEST = DATA / "en_long.flac"
CLIP_SOURCES = ("en_long", "en_two", "en_three")
CLIP_S = (3.0, 20.0)
BLOCK_SAMPLES = 4096  # of FLAC


def read_samples(path: Path) -> Samples:
    samples: Samples = decode_audio(str(path), sampling_rate=SAMPLE_RATE)
    return samples


def write_audio(target: Path | IO[bytes], samples: Samples, container: str, codec: str) -> None:
    """16 kHz mono, e.g. "flac" and "flac", or "mp4" and "aac"."""
    write_blocks(target, [samples], container, codec)


def write_blocks(
    target: Path | IO[bytes], blocks: Iterable[Samples], container: str, codec: str
) -> None:
    """Write the blocks one by one, so that 8 hours need not fit in memory."""
    sink = str(target) if isinstance(target, Path) else target
    position = 0
    with av.open(sink, "w", format=container) as output:
        stream = output.add_stream(codec, rate=SAMPLE_RATE, layout="mono")
        resampler = av.AudioResampler(stream.format, "mono", SAMPLE_RATE, BLOCK_SAMPLES)
        for block in blocks:
            pcm = (np.clip(block, -1, 1) * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
            frame.sample_rate, frame.pts = SAMPLE_RATE, position
            position += len(pcm)
            for resampled in resampler.resample(frame):
                output.mux(stream.encode(resampled))
        for resampled in resampler.resample(None):
            output.mux(stream.encode(resampled))
        output.mux(stream.encode(None))


def tile(minutes: float, folder: Path, codec: str = "flac") -> Path:
    """A file of this length that repeats one conversation. It is kept for the next run."""
    container = {"flac": "flac", "aac": "mp4"}[codec]
    path = folder / f"tiled-{minutes:g}-minutes.{container}"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        source = read_samples(LONGEST)
        left = round(minutes * 60 * SAMPLE_RATE)
        blocks = [source] * (left // len(source)) + [source[: left % len(source)]]
        partial = path.with_suffix(".partial")
        write_blocks(partial, blocks, container, codec)
        partial.rename(path)
    return path


def clips(count: int, seed: int = 0) -> list[bytes]:
    """FLAC files from several conversations, with lengths spread evenly from 3 to 20 s."""
    rng = random.Random(seed)
    sources = [read_samples(DATA / f"{name}.flac") for name in CLIP_SOURCES]
    shortest, longest = CLIP_S
    lengths = [shortest + (longest - shortest) * (i + 0.5) / count for i in range(count)]
    rng.shuffle(lengths)
    return [cut(rng.choice(sources), length_s, rng) for length_s in lengths]


def cut(source: Samples, length_s: float, rng: random.Random) -> bytes:
    num_samples = round(length_s * SAMPLE_RATE)
    begin = rng.randrange(len(source) - num_samples)
    file = io.BytesIO()
    write_audio(file, source[begin : begin + num_samples], "flac", "flac")
    return file.getvalue()


def duration_s(clip: bytes) -> float:
    return len(decode_audio(io.BytesIO(clip), sampling_rate=SAMPLE_RATE)) / SAMPLE_RATE
