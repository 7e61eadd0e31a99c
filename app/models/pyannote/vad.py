"""Speech detection with the segmentation model inside the whisperx package."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from pyannote.audio import Inference
from pyannote.core import SlidingWindow
from whisperx.vads.pyannote import load_vad_model

from app.domain.transcript import SAMPLE_RATE, Samples
from app.models.devices import free_memory, weights_bytes
from app.models.protocols import SpeechScores, WindowBlock, WindowScores
from app.models.pyannote.checkpoints import allow_metadata
from app.models.pyannote.windows import (
    WindowModel,
    ends_of_blocks,
)

STEP_RATIO = 0.5  # of a window: finds the same speech as whisperx's 0.1 with a fifth of the work


class PyannoteVad(WindowModel):
    """Implements `VoiceActivityDetector`."""

    def __init__(self, device: str, onset: float, offset: float, batch_size: int) -> None:
        """`batch_size`: windows per call."""
        allow_metadata()
        pipeline = load_vad_model(torch.device(device), vad_onset=onset, vad_offset=offset)
        self._inference: Inference = pipeline._segmentation
        window_s: float = self._inference.duration
        super().__init__(window_s, STEP_RATIO * window_s, batch_size)
        self._frames: SlidingWindow = self._inference.model.receptive_field
        self.memory_bytes = weights_bytes(self._inference.model)

    def close(self) -> None:
        del self._inference
        free_memory()

    def run(self, items: Sequence[WindowBlock]) -> list[WindowScores]:
        """Per block float32 (num_windows, num_frames, 1): the most active local speaker's score."""
        windows = self._stack(items)
        scores = self._infer(windows, self._inference.infer)
        return np.split(scores.max(axis=-1, keepdims=True), ends_of_blocks(items))

    def track(self, samples: Samples) -> PyannoteSpeechTrack:
        frames = SlidingWindow(self._frames.duration, self._frames.step, start=0.0)
        return PyannoteSpeechTrack(frames, self._step_s, len(samples) / SAMPLE_RATE)


class PyannoteSpeechTrack:
    """Implements `SpeechTrack` for overlapping windows: the mean score of each frame, weighted by a
    Hamming window. Source: pyannote.audio's Inference.aggregate, which needs all windows at once.
    """

    def __init__(self, frames: SlidingWindow, step_s: float, duration_s: float) -> None:
        self._frames = frames
        self._step_s = step_s
        self._first_s = frames[0].middle
        # the last windows reach past the end of the recording
        self._num_frames = max(0, int((duration_s - self._first_s) / frames.step) + 1)
        self._sums = np.zeros(self._num_frames, np.float32)
        self._weights = np.zeros(self._num_frames, np.float32)
        self._scores = np.zeros(self._num_frames, np.float32)
        self._num_windows = 0

    def add(self, block: WindowScores, last: bool) -> SpeechScores:
        """All scores that are final, now that these windows are known.

        `block`: float32 (num_windows, num_frames, 1). `last`: no more blocks.
        """
        settled = self._start(self._num_windows)
        for window in block[:, :, 0]:
            start = self._start(self._num_windows)
            weights = np.hamming(len(window))[: max(0, self._num_frames - start)]
            end = start + len(weights)
            self._sums[start:end] += window[: len(weights)] * weights
            self._weights[start:end] += weights
            self._num_windows += 1
        known = self._num_frames if last else min(self._start(self._num_windows), self._num_frames)
        fresh = slice(settled, known)
        self._scores[fresh] = self._sums[fresh] / np.maximum(self._weights[fresh], 1e-12)
        return SpeechScores(self._scores[:known], self._first_s, self._frames.step)

    def _start(self, window: int) -> int:
        """The frame at which a window begins."""
        start_s = window * self._step_s
        return int(self._frames.closest_frame(start_s + 0.5 * self._frames.duration))
