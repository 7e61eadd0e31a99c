"""Sound that arrives in pieces of any size -> float32 samples at 16 kHz."""

from __future__ import annotations

from enum import StrEnum

import av
import numpy as np
import numpy.typing as npt

from app.domain.transcript import SAMPLE_RATE, Samples

LOWEST_RATE, HIGHEST_RATE = 8_000, 192_000  # Hz
LOUDEST = 4.0  # float samples beyond it are noise, or no samples at all


class Encoding(StrEnum):
    """Of raw mono samples. `F32` and `S16` are little-endian; the others are G.711."""

    F32 = "float32"
    S16 = "int16"
    ULAW = "ulaw"
    ALAW = "alaw"

    @property
    def sample_bytes(self) -> int:
        return {Encoding.F32: 4, Encoding.S16: 2}.get(self, 1)


class StreamDecoder:
    """Decodes the sound of one stream. Keeps the bytes of a sample that is not complete."""

    def __init__(self, encoding: Encoding, rate: int, rest: bytes = b"") -> None:
        """`rate`: of the arriving samples, in Hz. `rest`: as that of another decoder. Raises
        ValueError.
        """
        if not LOWEST_RATE <= rate <= HIGHEST_RATE:
            raise ValueError(f"a sample rate of {LOWEST_RATE} to {HIGHEST_RATE} Hz is needed")
        self._encoding = encoding
        self._rate = rate
        self._rest = rest
        self._resampler = (
            None
            if rate == SAMPLE_RATE
            else av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
        )

    @property
    def rest(self) -> bytes:
        """Of a sample that is not complete."""
        return self._rest

    def decode(self, data: bytes) -> Samples:
        """The samples that are complete. The resampler holds back some milliseconds."""
        data = self._rest + data
        size = self._encoding.sample_bytes
        whole = len(data) - len(data) % size
        self._rest = data[whole:]
        samples = _decoded(data[:whole], self._encoding)
        return samples if self._resampler is None else self._resampled(samples)

    def flush(self) -> Samples:
        """What the resampler held back. The stream may go on."""
        if self._resampler is None:
            return np.zeros(0, np.float32)
        rest = _joined(self._resampler.resample(None))
        self._resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
        return rest

    def _resampled(self, samples: Samples) -> Samples:
        if not len(samples):
            return samples
        frame = av.AudioFrame.from_ndarray(samples[None, :], format="flt", layout="mono")
        frame.sample_rate = self._rate
        assert self._resampler is not None
        return _joined(self._resampler.resample(frame))


def _joined(frames: list[av.AudioFrame]) -> Samples:
    pieces = [frame.to_ndarray()[0] for frame in frames]
    return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)


def _decoded(data: bytes, encoding: Encoding) -> Samples:
    match encoding:
        case Encoding.F32:
            finite = np.nan_to_num(np.frombuffer(data, "<f4"), posinf=0.0, neginf=0.0)
            floats: Samples = np.clip(finite, -LOUDEST, LOUDEST).astype(np.float32)
            return floats
        case Encoding.S16:
            halves = np.frombuffer(data, "<i2").astype(np.float32)
            halves /= 32768
            return halves
        case Encoding.ULAW:
            return ULAW[np.frombuffer(data, np.uint8)]
        case Encoding.ALAW:
            return ALAW[np.frombuffer(data, np.uint8)]


def _ulaw() -> npt.NDArray[np.float32]:
    """Source: ITU-T G.711, table 2."""
    code = ~np.arange(256, dtype=np.uint8)
    exponent, mantissa = (code >> 4) & 7, code & 15
    size = ((mantissa.astype(int) * 2 + 33) << exponent) - 33
    values: npt.NDArray[np.float32] = (np.where(code & 0x80, -size, size) / 8192).astype(np.float32)
    return values


def _alaw() -> npt.NDArray[np.float32]:
    """Source: ITU-T G.711, table 1."""
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    exponent, mantissa = ((code >> 4) & 7).astype(int), (code & 15).astype(int) * 2 + 1
    size = np.where(exponent == 0, mantissa, (mantissa + 32) << np.maximum(exponent - 1, 0))
    values: npt.NDArray[np.float32] = (np.where(code & 0x80, size, -size) / 4096).astype(np.float32)
    return values


ULAW, ALAW = _ulaw(), _alaw()
