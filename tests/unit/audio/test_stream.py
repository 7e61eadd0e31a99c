"""StreamDecoder: sound in pieces of any size is the sound in one piece."""

from __future__ import annotations

import numpy as np
import pytest

from app.audio.stream import LOUDEST, Encoding, StreamDecoder

TONE = np.sin(np.arange(24_000) / 9).astype(np.float32) / 2


def decoded(data: bytes, encoding: Encoding, rate: int, piece: int) -> np.ndarray:
    decoder = StreamDecoder(encoding, rate)
    parts = [decoder.decode(data[at : at + piece]) for at in range(0, len(data), piece)]
    return np.concatenate([*parts, decoder.flush()])


@pytest.mark.parametrize("encoding", Encoding)
def test_single_bytes_are_the_whole(encoding: Encoding) -> None:
    data = np.random.default_rng(1).integers(0, 256, 999, np.uint8).tobytes()
    whole = decoded(data, encoding, 16_000, len(data))
    assert len(whole) == 999 // encoding.sample_bytes
    assert np.array_equal(decoded(data, encoding, 16_000, 1), whole)
    assert np.isfinite(whole).all()


@pytest.mark.parametrize("rate", [8_000, 22_050, 24_000, 44_100, 48_000])
def test_resampling_in_pieces_is_resampling(rate: int) -> None:
    data = TONE.tobytes()
    whole = decoded(data, Encoding.F32, rate, len(data))
    assert len(whole) == pytest.approx(len(TONE) * 16_000 / rate, abs=2)
    for piece in (7, 641, 4_000):
        parts = decoded(data, Encoding.F32, rate, piece)
        assert len(parts) == pytest.approx(len(whole), abs=1)
        size = min(len(parts), len(whole))
        assert np.abs(parts[:size] - whole[:size]).max() < 1e-3


def test_a_tone_stays_a_tone() -> None:
    at_48 = np.sin(2 * np.pi * 440 * np.arange(48_000) / 48_000).astype(np.float32)
    found = decoded(at_48.tobytes(), Encoding.F32, 48_000, 960)
    assert abs(np.argmax(np.abs(np.fft.rfft(found))) * 16_000 / len(found) - 440) < 2


def test_what_is_no_sound_is_silence() -> None:
    hostile = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30, 0.5], "<f4").tobytes()
    found = StreamDecoder(Encoding.F32, 16_000).decode(hostile)
    assert found.tolist() == [0, 0, 0, LOUDEST, -LOUDEST, 0.5]


# Source: ITU-T G.711, tables 1 and 2: code, and value in 14 (µ-law) or 13 bits (A-law).
@pytest.mark.parametrize(
    ("encoding", "code", "value"),
    [
        (Encoding.ULAW, 0xFF, 0), (Encoding.ULAW, 0x80, 8031), (Encoding.ULAW, 0x00, -8031),
        (Encoding.ULAW, 0xEF, 33), (Encoding.ULAW, 0x7E, -2),
        (Encoding.ALAW, 0xD5, 1), (Encoding.ALAW, 0x55, -1), (Encoding.ALAW, 0xAA, 4032),
        (Encoding.ALAW, 0x2A, -4032), (Encoding.ALAW, 0xC5, 33),
    ],
)  # fmt: skip
def test_telephone_codes(encoding: Encoding, code: int, value: int) -> None:
    [found] = StreamDecoder(encoding, 16_000).decode(bytes([code]))
    assert found * (8192 if encoding is Encoding.ULAW else 4096) == value


def test_a_flushed_decoder_goes_on() -> None:
    decoder = StreamDecoder(Encoding.S16, 8_000)
    decoder.decode(b"\x01" * 1601)
    decoder.flush()
    data = np.full(801, 1_000, "<i2").tobytes()
    more = [decoder.decode(data[1:]), decoder.flush()]  # the odd byte was the first of a sample
    assert np.concatenate(more)[100:-100] == pytest.approx(1_000 / 32_768, abs=1e-3)


@pytest.mark.parametrize("rate", [0, -1, 7_999, 192_001])
def test_impossible_rates(rate: int) -> None:
    with pytest.raises(ValueError, match="sample rate"):
        StreamDecoder(Encoding.S16, rate)
