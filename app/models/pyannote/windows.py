"""Cuts a recording into the overlapping windows that pyannote's models take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from app.domain.transcript import SAMPLE_RATE, Samples
from app.models.protocols import WindowBlock

ITEM_WINDOWS = 4  # per item of the queue: the shortest wait for others, the smallest batch


@dataclass(frozen=True, slots=True)
class WindowBatches:
    """How many windows the segmentation and the embedding network take per call."""

    segmentation: int
    embedding: int


# 32 windows fill a GPU. On a CPU, time grows in proportion to the number of windows.
DEFAULT_BATCHES = {"cuda": WindowBatches(32, 32), "cpu": WindowBatches(8, 8)}


def choose_batches(device: str, segmentation: int, embedding: int) -> WindowBatches:
    """The given sizes; 0 means the default of the device."""
    default = DEFAULT_BATCHES[device.partition(":")[0]]
    return WindowBatches(segmentation or default.segmentation, embedding or default.embedding)


class WindowModel:
    """The part of a model that takes a recording as overlapping windows."""

    def __init__(self, window_s: float, step_s: float, windows_per_batch: int) -> None:
        self._window_s = window_s
        self._step_s = step_s
        self._window_samples = round(window_s * SAMPLE_RATE)
        self._step_samples = round(step_s * SAMPLE_RATE)
        self.num_workers = 1
        self.batch_size = blocks_per_batch(windows_per_batch)
        self._of_silence: npt.NDArray[np.float32] | None = None

    def split(self, samples: Samples) -> list[WindowBlock]:
        return split_windows(samples, self._window_samples, self._step_samples)

    def batch_key(self, item: WindowBlock) -> str:
        return "windows"

    def audio_s(self, item: WindowBlock) -> float:
        return item.num_windows * self._window_s

    def _infer(
        self, windows: torch.Tensor, infer: Callable[[torch.Tensor], Any]
    ) -> npt.NDArray[np.float32]:
        """What `infer` gives for each window: computed once for all windows without any sound, of
        which a recording with gaps may have hours.
        """
        heard = windows.any(dim=-1).any(dim=-1).numpy()
        if heard.all():
            return np.asarray(infer(windows), np.float32)
        if self._of_silence is None:
            self._of_silence = np.asarray(infer(torch.zeros_like(windows[:1])), np.float32)
        found = np.repeat(self._of_silence, len(windows), axis=0)
        if heard.any():
            found[heard] = infer(windows[torch.from_numpy(heard)])
        return found

    def _stack(self, blocks: Sequence[WindowBlock]) -> torch.Tensor:
        return stack_windows(blocks, self._window_samples, self._step_samples)


def count_windows(num_samples: int, window_samples: int, step_samples: int) -> int:
    """As in pyannote.audio's Inference.slide: whole windows, and a padded one for the rest."""
    if num_samples <= window_samples:
        return 1
    whole, left = divmod(num_samples - window_samples, step_samples)
    return whole + 1 + (left > 0)


def split_windows(samples: Samples, window_samples: int, step_samples: int) -> list[WindowBlock]:
    """Blocks of a few windows each. A batch holds several, of one recording or of many."""
    total = count_windows(len(samples), window_samples, step_samples)
    return [
        WindowBlock(samples, first, min(ITEM_WINDOWS, total - first))
        for first in range(0, total, ITEM_WINDOWS)
    ]


def blocks_per_batch(num_windows: int) -> int:
    return -(-num_windows // ITEM_WINDOWS)


def stack_windows(
    blocks: Sequence[WindowBlock], window_samples: int, step_samples: int
) -> torch.Tensor:
    """The windows of all blocks: float32 (num_windows, 1, window_samples), padded with silence."""
    stacked = []
    for block in blocks:
        begin = block.first_window * step_samples
        length = window_samples + (block.num_windows - 1) * step_samples
        piece = np.zeros(length, np.float32)
        available = block.samples[begin : begin + length]
        piece[: len(available)] = available
        stacked.append(torch.from_numpy(piece).unfold(0, window_samples, step_samples))
    return torch.cat(stacked).unsqueeze(1)


def ends_of_blocks(blocks: Sequence[WindowBlock]) -> list[int]:
    """Where np.split must cut the windows of `stack_windows`."""
    return [int(end) for end in np.cumsum([block.num_windows for block in blocks])[:-1]]
