"""Sound without speech: every transcribed word is invented."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from app.domain.transcript import SAMPLE_RATE, Samples
from benchmarks.material.recording import Recording

NOTES_HZ = (220.0, 261.6, 329.6, 392.0, 440.0, 523.3)


def quiet_recordings(seed: int) -> list[Recording]:
    """Silence, noise, hum, clicks, tones and music, each of 4 to 40 s."""
    rng = np.random.default_rng(1000 + seed)
    return [
        Recording(f"nothing-{name}", "nothing", "en", ("",), samples.astype(np.float32))
        for name, samples in _sounds(rng)
    ]


def _sounds(rng: np.random.Generator) -> Iterator[tuple[str, Samples]]:
    def length() -> int:
        return int(rng.uniform(4, 40) * SAMPLE_RATE)

    yield "zeros", np.zeros(length(), np.float32)
    yield "one-second", np.zeros(SAMPLE_RATE, np.float32)
    for level_db in (-70, -50, -35, -20):
        yield f"white{level_db}", _colored(rng, length(), 0.0, level_db)
    for level_db in (-45, -25):
        yield f"pink{level_db}", _colored(rng, length(), 1.0, level_db)
        yield f"brown{level_db}", _colored(rng, length(), 2.0, level_db)
    for hertz in (50, 100):
        yield f"hum{hertz}", _hum(length(), hertz) + _colored(rng, length(), 0.0, -60)[:1]
    yield "clicks", _clicks(rng, length(), per_s=3.0)
    yield "typing", _clicks(rng, length(), per_s=8.0) + 0.0
    yield "sine", 0.2 * _tone(length(), 440.0)
    yield "beeps", _beeps(length())
    yield "melody", _music(rng, length(), voices=1)
    yield "chords", _music(rng, length(), voices=3)
    yield "short-noise", _colored(rng, SAMPLE_RATE // 2, 0.0, -30)


def _tone(num_samples: int, hertz: float) -> Samples:
    wave: Samples = np.sin(2 * np.pi * hertz * np.arange(num_samples) / SAMPLE_RATE)
    return wave


def _colored(rng: np.random.Generator, num_samples: int, slope: float, level_db: float) -> Samples:
    """Noise whose power falls with frequency to the power of `slope`; `level_db`: RMS, dBFS."""
    spectrum = np.fft.rfft(rng.standard_normal(num_samples))
    frequencies = np.maximum(np.fft.rfftfreq(num_samples, 1 / SAMPLE_RATE), 20.0)
    noise = np.fft.irfft(spectrum / frequencies ** (slope / 2), num_samples)
    scaled: Samples = noise / np.sqrt(np.mean(noise**2)) * 10 ** (level_db / 20)
    return scaled


def _hum(num_samples: int, hertz: float) -> Samples:
    """Mains hum: the tone and its overtones."""
    hum: Samples = sum(0.1 / n * _tone(num_samples, n * hertz) for n in (1, 2, 3, 5))
    return hum


def _clicks(rng: np.random.Generator, num_samples: int, per_s: float) -> Samples:
    sound = np.zeros(num_samples)
    num_clicks = int(per_s * num_samples / SAMPLE_RATE)
    for position in rng.integers(0, num_samples - 400, num_clicks):
        burst = rng.standard_normal(400) * np.exp(-np.arange(400) / rng.uniform(20, 100))
        sound[position : position + 400] += rng.uniform(0.05, 0.3) * burst
    return np.clip(sound, -1, 1)


def _beeps(num_samples: int) -> Samples:
    on = (np.arange(num_samples) / SAMPLE_RATE) % 1.0 < 0.3
    beeps: Samples = 0.3 * on * _tone(num_samples, 1000.0)
    return beeps


def _music(rng: np.random.Generator, num_samples: int, voices: int) -> Samples:
    """Notes of half a second that fade, `voices` at a time."""
    note = SAMPLE_RATE // 2
    fade = np.exp(-np.arange(note) / (0.2 * SAMPLE_RATE))
    sound = np.zeros(num_samples)
    for begin in range(0, num_samples - note, note):
        for hertz in rng.choice(NOTES_HZ, voices, replace=False):
            overtones = sum(_tone(note, n * hertz) / n for n in (1, 2, 3))
            sound[begin : begin + note] += 0.25 / voices * fade * overtones
    return sound
