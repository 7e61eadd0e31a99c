"""Small files that cause much work: refused, and cheaply."""

from __future__ import annotations

import resource
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.audio import effort
from app.audio.decode import DecodedFile, DecodeRequest, decode
from app.audio.effort import BAD_CHANNELS, BAD_RATE, TOO_COSTLY, Effort
from app.domain.errors import TooCostly, UndecodableAudio
from tests.support.media import Media, encode

DAY_S = 86_400.0


def wav(rate: int, num_samples: int, num_channels: int = 1) -> bytes:
    """8-bit noise."""
    noise = np.random.default_rng(1).integers(0, 255, num_samples * num_channels, np.uint8)
    form = struct.pack("<HHIIHH", 1, num_channels, rate, rate * num_channels, num_channels, 8)
    chunks = b"WAVEfmt " + struct.pack("<I", len(form)) + form
    chunks += b"data" + struct.pack("<I", len(noise)) + noise.tobytes()
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


def _checksum(data: bytes, bits: int, polynomial: int) -> bytes:
    value = 0
    for byte in data:
        value ^= byte << (bits - 8)
        for _ in range(8):
            value = value << 1 ^ (polynomial if value >> (bits - 1) else 0)
            value &= (1 << bits) - 1
    return value.to_bytes(bits // 8)


def _flac_frame(number: int, rate: int, size: int) -> bytes:
    """Mono, 16 bits, one value throughout. `rate`: the code of RFC 9639, 9.1.2."""
    if number < 0x80:
        coded = bytes([number])
    else:
        coded = bytes([0xE0 | number >> 12, 0x80 | number >> 6 & 63, 0x80 | number & 63])
        coded = coded if number >= 0x800 else bytes([0xC0 | number >> 6, 0x80 | number & 63])
    head = bytes([0xFF, 0xF8, 0x70 | rate, 0x08]) + coded + struct.pack(">H", size - 1)
    head += _checksum(head, 8, 0x07)
    body = head + b"\0" + struct.pack(">h", 1000)
    return body + _checksum(body, 16, 0x8005)


def flac(num_frames: int, size: int, *rates: int) -> bytes:
    """Frames whose rates alternate."""
    info = struct.pack(">HH", size, size) + bytes(6)
    info += (44_100 << 44 | 15 << 36).to_bytes(8) + bytes(16)
    frames = (_flac_frame(i, rates[i % len(rates)], size) for i in range(num_frames))
    return b"fLaC" + bytes([0x80]) + len(info).to_bytes(3) + info + b"".join(frames)


@pytest.fixture
def decoded(tmp_path: Path) -> Callable[[bytes], DecodedFile]:
    def run(content: bytes) -> DecodedFile:
        source, target = tmp_path / "in", tmp_path / "out"
        source.write_bytes(content)
        target.touch()
        return decode(DecodeRequest(source, target, DAY_S))

    return run


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (flac(1000, 16, 9, 10), TOO_COSTLY),  # 44.1 and 48 kHz
        (wav(100_000_000, 4000), BAD_RATE),
        (wav(1, 57_000), BAD_RATE),
        (wav(16_000, 800, 65), BAD_CHANNELS),
    ],
    ids=["two rates in turn", "100 MHz", "1 Hz", "channels"],
)
def test_files_that_cause_much_work(decoded: Any, content: bytes, said: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UndecodableAudio) as caught:
        decoded(content)
    assert caught.value.message == said
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


def test_what_recordings_do_is_allowed(decoded: Any) -> None:
    """A stream of songs changes its rate; a telephone's is low, a studio's is high."""
    assert decoded(flac(90, 4000, 9, 10)).num_samples > 90 * 4000 * 16_000 / 48_000
    for rate, num_samples in ((1000, 5000), (768_000, 400_000), (2_822_400, 800_000)):
        assert decoded(wav(rate, num_samples)).num_samples == pytest.approx(
            num_samples / rate * 16_000, abs=40
        )


def test_a_constant_takes_no_disk(decoded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """20 bytes of FLAC can stand for seconds of sound: 30,000 times as many bytes."""
    bomb = flac(40, 65_535, 4)  # 8 kHz
    assert decoded(bomb).num_samples == pytest.approx(40 * 65_535 * 2, abs=40)
    monkeypatch.setattr(effort, "WRITTEN_BYTES", 1 << 20)
    with pytest.raises(TooCostly):
        decoded(bomb)


def test_gaps_are_no_work(decoded: Any) -> None:
    beep = np.sin(np.arange(800, dtype=np.float32) / 5) / 2
    content = encode(Media("matroska", "libopus", 48_000), *[(i * 3000.0, beep) for i in range(9)])
    assert len(content) < 40_000
    found = decoded(content)
    assert found.num_samples > 24_000 * 16_000
    assert found.num_samples - found.num_silent < 60 * 16_000


def test_cpu_time_grows_with_the_sound_and_the_bytes() -> None:
    now, limits = 100.0, list[float]()
    spent = Effort(5_000_000, limits.append, lambda: now)
    now += 10.9
    spent.check()
    spent.hear(1, 16_000, 16_000 * 100)
    now += 20
    spent.check()
    now += 0.2
    with pytest.raises(TooCostly):
        spent.check()
    assert limits == [pytest.approx(116.0), pytest.approx(136.0)]
