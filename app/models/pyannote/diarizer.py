"""pyannote.audio: who speaks when.

Instead of the pipeline's own `apply`, windows (segmentation and embedding, on the device) and
clustering (on the host) are separate steps, for three reasons: recordings of several requests can
alternate window by window; the trunk of the embedding network runs once per window instead of once
per local speaker; and exclusive turns are built without `min_duration_off`, which makes them
overlap.
Source: pyannote/audio/pipelines/speaker_diarization.py, version 4.0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pyannote.audio.models.embedding.wespeaker import BaseWeSpeakerResNet
from pyannote.audio.utils.signal import binarize
from pyannote.core import Annotation, SlidingWindow, SlidingWindowFeature

from app.domain.options import SpeakerBounds
from app.domain.transcript import SAMPLE_RATE, Diarization, Samples
from app.models.devices import free_memory, weights_bytes
from app.models.protocols import WindowBlock, WindowSpeakers
from app.models.pyannote.clustering import SpeakerClustering
from app.models.pyannote.pipelines import open_pipeline
from app.models.pyannote.turns import INACTIVE, aggregate, to_diarization
from app.models.pyannote.windows import WindowBatches, WindowModel, ends_of_blocks


class PyannoteDiarizer(WindowModel):
    """Implements `Diarizer` for pyannote.audio's SpeakerDiarization pipelines."""

    def __init__(
        self,
        source: str,
        device: str,
        batches: WindowBatches,
        cache_dir: Path,
        token: str | None = None,
        params: Mapping[str, Mapping[str, Any]] | None = None,
        part_s: float = math.inf,
    ) -> None:
        """`params` overrides the pipeline's own, e.g. {"clustering": {"threshold": 0.7}}.
        Recordings longer than `part_s` are clustered in parts, see `clustering.py`.

        Raises:
            ModelUnavailable: it is gated, or is not a diarization pipeline.
        """
        pipeline = open_pipeline(source, device, cache_dir, token, params)
        self._pipeline: Any = pipeline
        inference = pipeline._segmentation
        super().__init__(inference.duration, inference.step, batches.segmentation)
        self._frames: SlidingWindow = inference.model.receptive_field
        self._powerset = bool(inference.model.specifications.powerset)
        self._min_off_s: float = pipeline.segmentation.min_duration_off
        self._min_num_samples: int = pipeline._embedding.min_num_samples
        self._embedding_batch_size = batches.embedding
        self._silent_vector = _silent_embedding(pipeline._embedding)
        self._clustering = SpeakerClustering(pipeline, self._step_s, part_s)
        self.memory_bytes = weights_bytes(inference.model, pipeline._embedding.model_)

    def close(self) -> None:
        del self._pipeline
        free_memory()

    def run(self, items: Sequence[WindowBlock]) -> list[WindowSpeakers]:
        windows = self._stack(items)
        activity = self._infer(windows, self._pipeline._segmentation.infer)
        embeddings = self._embed(windows, self._embedding_masks(self._binarize(activity)))
        ends = ends_of_blocks(items)
        return [
            WindowSpeakers(*pair)
            for pair in zip(np.split(activity, ends), np.split(embeddings, ends), strict=True)
        ]

    def _embed(
        self, windows: torch.Tensor, masks: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        """float32 (num_windows, num_local_speakers, dimension).

        `masks`: (num_windows, num_frames, num_local_speakers). The network's trunk runs once for
        each window with speech, its pooling once for each local speaker.
        """
        embedding = self._pipeline._embedding
        weights = torch.from_numpy(masks.transpose(0, 2, 1).copy())
        num_windows, num_speakers, _ = weights.shape
        vectors = np.empty((num_windows, num_speakers, embedding.dimension), np.float32)
        heard = np.arange(num_windows)
        if self._silent_vector is not None:
            vectors[:] = self._silent_vector
            heard = np.flatnonzero(masks.any(axis=(1, 2)))
        with torch.inference_mode():
            for begin in range(0, len(heard), self._embedding_batch_size):
                rows = heard[begin : begin + self._embedding_batch_size]
                found = embedding.model_(
                    windows[rows].to(embedding.device), weights=weights[rows].to(embedding.device)
                )
                vectors[rows] = found.float().cpu().numpy()
        return vectors

    def _binarize(self, activity: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        if self._powerset:
            return activity
        feature = SlidingWindowFeature(activity, self._window_grid())
        binary = binarize(feature, onset=self._pipeline.segmentation.threshold, initial_state=False)
        return np.asarray(binary.data, np.float32)

    def _window_grid(self) -> SlidingWindow:
        return SlidingWindow(start=0.0, duration=self._window_s, step=self._step_s)

    def _embedding_masks(self, binary: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The frames that represent each local speaker: without overlap if those are enough."""
        if not self._pipeline.embedding_exclude_overlap:
            return binary
        num_frames = binary.shape[1]
        min_frames = math.ceil(num_frames * self._min_num_samples / self._window_samples)
        alone = binary * (binary.sum(axis=2, keepdims=True) < 2)
        long_enough = alone.sum(axis=1, keepdims=True) > min_frames
        return np.where(long_enough, alone, binary).astype(np.float32)

    def join(
        self, samples: Samples, blocks: Sequence[WindowSpeakers], bounds: SpeakerBounds
    ) -> Diarization:
        grid = self._window_grid()
        activity = SlidingWindowFeature(np.concatenate([b.activity for b in blocks]), grid)
        embeddings = np.concatenate([b.embeddings for b in blocks])
        binary = SlidingWindowFeature(
            np.concatenate([self._binarize(b.activity) for b in blocks]), grid
        )
        count = self._pipeline.speaker_count(binary, self._frames, warm_up=(0.0, 0.0))
        if np.nanmax(count.data) == 0:
            return Diarization()
        found = self._clustering.cluster(embeddings, binary, bounds)
        found.labels[binary.data.sum(axis=1) == 0] = INACTIVE
        most = np.minimum(count.data, found.max_speakers).astype(np.int8)
        frames = aggregate(activity, found.labels, count.sliding_window, int(most.max()))
        overlapping = self._annotate(frames, most, self._min_off_s)
        exclusive = self._annotate(frames, np.minimum(most, 1), min_duration_off_s=0.0)
        duration_s = len(samples) / SAMPLE_RATE
        return to_diarization(overlapping, exclusive, found.centroids, duration_s)

    def _annotate(
        self,
        activations: SlidingWindowFeature,
        count: npt.NDArray[np.int8],
        min_duration_off_s: float,
    ) -> Annotation:
        """Turns in which, in each frame, the `count` most active speakers speak."""
        num_frames = min(len(activations.data), len(count))
        scores = activations.data[:num_frames]
        ranked = np.argsort(-scores, axis=-1)
        active = np.zeros_like(scores)
        chosen = np.arange(scores.shape[1]) < count[:num_frames]
        np.put_along_axis(active, ranked, chosen.astype(scores.dtype), axis=-1)
        return self._pipeline.to_annotation(
            SlidingWindowFeature(active, activations.sliding_window),
            min_duration_on=0.0,
            min_duration_off=min_duration_off_s,
        )


def _silent_embedding(embedding: Any) -> npt.NDArray[np.float32] | None:
    """The embedding of a mask without speech, which is the same for every window. None if the
    network is not a WeSpeaker: of others this is not known.
    """
    if not isinstance(embedding.model_, BaseWeSpeakerResNet):
        return None
    noise = torch.rand(1, 1, SAMPLE_RATE, device=embedding.device)
    with torch.inference_mode():
        found = embedding.model_(noise, weights=torch.zeros(1, 1, 100, device=embedding.device))
    vector: npt.NDArray[np.float32] = found[0, 0].float().cpu().numpy()
    return vector if np.isfinite(vector).all() else None
