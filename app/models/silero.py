"""Speech detection in sound as it arrives: Silero's model inside the faster-whisper package."""

from __future__ import annotations

from pathlib import Path

import faster_whisper
import numpy as np
import numpy.typing as npt
import onnxruntime

from app.domain.transcript import Samples

FRAME_SAMPLES = 512
CONTEXT_SAMPLES = 64  # of the frame before
FILE = Path(faster_whisper.__file__).parent / "assets" / "silero_vad_v6.onnx"


class StreamingVad:
    """The model, shared by all streams. Any thread may use it."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.inter_op_num_threads = options.intra_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        self._session = onnxruntime.InferenceSession(
            str(FILE), options, providers=["CPUExecutionProvider"]
        )

    def track(self) -> StreamingTrack:
        """A track for a new stream."""
        return StreamingTrack(self._session)


class StreamingTrack:
    """What the model remembers of one stream."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session
        self._h = np.zeros((1, 1, 128), np.float32)
        self._c = np.zeros((1, 1, 128), np.float32)
        self._context = np.zeros(CONTEXT_SAMPLES, np.float32)

    def add(self, samples: Samples) -> npt.NDArray[np.float32]:
        """The probability of speech in each frame: float32 (num_frames,).

        `samples`: float32 (num_frames * FRAME_SAMPLES,), following those of the last call.
        """
        frames = samples.reshape(-1, FRAME_SAMPLES)
        if not len(frames):
            return np.zeros(0, np.float32)
        before = np.vstack([self._context, frames[:-1, -CONTEXT_SAMPLES:]])
        scores, self._h, self._c = self._session.run(
            None, {"input": np.hstack([before, frames]), "h": self._h, "c": self._c}
        )
        self._context = frames[-1, -CONTEXT_SAMPLES:].copy()
        found: npt.NDArray[np.float32] = scores.reshape(-1)
        return found
