"""Small files that cause much work: refused, and cheaply."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.audio import effort
from app.audio.decode import DecodedFile, DecodeRequest, decode
from app.audio.effort import BAD_CHANNELS, BAD_RATE, TOO_COSTLY, Effort
from app.domain.errors import TooCostly, UndecodableAudio
from tests.support.costly import flac, wav
from tests.support.media import Media, encode

DAY_S = 86_400.0


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
