"""Cutting a recording into the overlapping windows that pyannote's models look through."""

from __future__ import annotations

import numpy as np
import torch

from app.models.protocols import WindowBlock
from app.transcript import Samples


def count_windows(num_samples: int, window_samples: int, step_samples: int) -> int:
    """As pyannote.audio's Inference.slide: whole windows, and a padded one for what is left."""
    if num_samples <= window_samples:
        return 1
    whole, left = divmod(num_samples - window_samples, step_samples)
    return whole + 1 + (left > 0)


def split_windows(
    samples: Samples, window_samples: int, step_samples: int, block_windows: int
) -> list[WindowBlock]:
    total = count_windows(len(samples), window_samples, step_samples)
    return [
        WindowBlock(samples, first, min(block_windows, total - first))
        for first in range(0, total, block_windows)
    ]


def stack_windows(block: WindowBlock, window_samples: int, step_samples: int) -> torch.Tensor:
    """float32 (num_windows, 1, window_samples), the end padded with silence."""
    begin = block.first_window * step_samples
    length = window_samples + (block.num_windows - 1) * step_samples
    piece = np.zeros(length, np.float32)
    available = block.samples[begin : begin + length]
    piece[: len(available)] = available
    return torch.from_numpy(piece).unfold(0, window_samples, step_samples).unsqueeze(1)
