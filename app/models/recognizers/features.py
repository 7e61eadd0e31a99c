"""Sound as Whisper sees it: log-mel features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from whisperx.audio import HOP_LENGTH, N_FFT, N_SAMPLES, mel_filters

from app.domain.transcript import Samples


def log_mel(
    samples: Sequence[Samples], num_mels: int, device: str, num_samples: int = N_SAMPLES
) -> torch.Tensor:
    """Whisper's features: float32 (len(samples), num_mels, num_samples / 160), each item padded to
    `num_samples`. Without it, to the 30 s of Whisper's training.

    The features are padded, not the sound: digital silence after a noise floor is an event that
    makes short recordings lose words. Source: whisper/audio.py, log_mel_spectrogram, which takes
    one recording at a time. Padding: faster_whisper/audio.py, pad_or_trim.
    """
    padded = np.zeros((len(samples), num_samples), np.float32)
    for row, piece in zip(padded, samples, strict=True):
        row[: min(len(piece), num_samples)] = piece[:num_samples]
    audio = torch.from_numpy(padded).to(device)
    window = torch.hann_window(N_FFT, device=device)
    spectrum = torch.stft(audio, N_FFT, HOP_LENGTH, window=window, return_complex=True)
    power = spectrum[..., :-1].abs() ** 2
    mel = mel_filters(audio.device, num_mels) @ power
    log = torch.clamp(mel, min=1e-10).log10()
    log = torch.maximum(log, log.amax(dim=(1, 2), keepdim=True) - 8.0)
    features: torch.Tensor = (log + 4.0) / 4.0
    for row, piece in zip(features, samples, strict=True):
        row[:, -(-len(piece) // HOP_LENGTH) :] = 0.0
    return features
