"""Speech detection with the segmentation model that the whisperx package carries."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from pyannote.audio import Inference
from pyannote.core import SlidingWindow, SlidingWindowFeature
from whisperx.vads.pyannote import load_vad_model

from app.audio.chunking import SpeechScores
from app.models.checkpoints import allow_metadata
from app.models.devices import free_memory
from app.models.protocols import WindowBlock, WindowScores
from app.models.windows import (
    blocks_per_batch,
    ends_of_blocks,
    split_windows,
    stack_windows,
)
from app.transcript import SAMPLE_RATE, Samples

STEP_RATIO = (
    0.5  # of a window: finds the speech that a tenth (whisperx) finds, for a fifth of the work
)


class PyannoteVad:
    """Implements `VoiceActivityDetector`."""

    def __init__(self, device: str, onset: float, offset: float, batch_size: int) -> None:
        """`batch_size`: windows at once."""
        allow_metadata()
        pipeline = load_vad_model(torch.device(device), vad_onset=onset, vad_offset=offset)
        self._inference: Inference = pipeline._segmentation
        self._window_s: float = self._inference.duration
        self._step_s = STEP_RATIO * self._window_s
        self._window_samples = round(self._window_s * SAMPLE_RATE)
        self._step_samples = round(self._step_s * SAMPLE_RATE)
        self._frames: SlidingWindow = self._inference.model.receptive_field
        self.batch_size = blocks_per_batch(batch_size)
        self.memory_bytes = sum(
            p.numel() * p.element_size() for p in self._inference.model.parameters()
        )

    def close(self) -> None:
        del self._inference
        free_memory()

    def split(self, samples: Samples) -> list[WindowBlock]:
        return split_windows(samples, self._window_samples, self._step_samples)

    def batch_key(self, item: WindowBlock) -> str:
        return "windows"

    def run(self, items: Sequence[WindowBlock]) -> list[WindowScores]:
        """Per block float32 (num_windows, num_frames, 1): the most active local speaker's score."""
        windows = stack_windows(items, self._window_samples, self._step_samples)
        scores: WindowScores = self._inference.infer(windows)
        return np.split(scores.max(axis=-1, keepdims=True), ends_of_blocks(items))

    def join(self, samples: Samples, blocks: Sequence[WindowScores]) -> SpeechScores:
        aggregated = Inference.aggregate(
            SlidingWindowFeature(
                np.concatenate(blocks),
                SlidingWindow(start=0.0, duration=self._window_s, step=self._step_s),
            ),
            self._frames,
            hamming=True,
            missing=0.0,
        )
        frames = aggregated.sliding_window
        first_s = frames[0].middle
        # the last windows reach beyond the end of the recording
        num_frames = int((len(samples) / SAMPLE_RATE - first_s) / frames.step) + 1
        return SpeechScores(
            aggregated.data[: max(0, num_frames), 0].astype(np.float32), first_s, frames.step
        )
