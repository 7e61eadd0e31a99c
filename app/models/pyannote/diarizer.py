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
import whisperx
import yaml
from pyannote.audio import Inference, Pipeline
from pyannote.audio.models.embedding.wespeaker import BaseWeSpeakerResNet
from pyannote.audio.pipelines.speaker_diarization import SpeakerDiarization
from pyannote.audio.utils.reproducibility import fix_reproducibility
from pyannote.audio.utils.signal import binarize
from pyannote.core import Annotation, SlidingWindow, SlidingWindowFeature
from torch import nn
from torch.nn.utils import fuse_conv_bn_eval

from app.domain.errors import ModelUnavailable
from app.domain.options import SpeakerBounds
from app.domain.transcript import SAMPLE_RATE, Diarization, Samples, Turn
from app.models.devices import free_memory, pause_between_layers, weights_bytes
from app.models.protocols import WindowBlock, WindowSpeakers
from app.models.pyannote.checkpoints import allow_metadata, check_pipeline
from app.models.pyannote.clustering import SpeakerClustering
from app.models.pyannote.windows import (
    WindowBatches,
    WindowModel,
    ends_of_blocks,
)

INACTIVE = -2  # pyannote's label for "belongs to no cluster"


def _load_pipeline(source: str, token: str | None, cache_dir: Path) -> Any:
    allow_metadata()
    check_pipeline(source, token, cache_dir)
    checkpoint: str | dict[str, Any] = source
    config = Path(source) / "config.yaml"
    if config.is_file() and not (Path(source) / "segmentation").exists():
        checkpoint = _with_bundled_segmentation(config)
    pipeline = Pipeline.from_pretrained(checkpoint, token=token, cache_dir=cache_dir)
    if pipeline is None:  # pyannote's answer if a licence is not accepted
        raise ModelUnavailable("The diarization model is gated: accept its licence, set HF_TOKEN.")
    return pipeline


def _with_bundled_segmentation(config: Path) -> dict[str, Any]:
    """For a local pipeline without a segmentation model of its own: the one inside whisperx."""
    content: dict[str, Any] = yaml.safe_load(config.read_text())
    params = content["pipeline"]["params"]
    for key, value in params.items():
        if isinstance(value, str) and value.startswith("$model/"):
            params[key] = str(config.parent / value.removeprefix("$model/"))
    params["segmentation"] = str(Path(whisperx.__file__).parent / "assets" / "pytorch_model.bin")
    return content


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
        pipeline = _load_pipeline(source, token, cache_dir)
        if not isinstance(pipeline, SpeakerDiarization):
            raise ModelUnavailable("DIARIZATION_MODEL is not a speaker diarization pipeline.")
        pipeline.to(torch.device(device))
        fix_reproducibility(torch.device(device))  # no TF32, as the pipeline's own `apply` does
        if device == "cpu":
            fold_batch_norms(pipeline._embedding.model_)
            pause_between_layers(pipeline._embedding.model_)
        if params:
            _override(pipeline, params)
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
        frames = _aggregate(activity, found.labels, count.sliding_window, int(most.max()))
        overlapping = self._annotate(frames, most, self._min_off_s)
        exclusive = self._annotate(frames, np.minimum(most, 1), min_duration_off_s=0.0)
        duration_s = len(samples) / SAMPLE_RATE
        return _to_diarization(overlapping, exclusive, found.centroids, duration_s)

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


def _aggregate(
    activity: SlidingWindowFeature,
    labels: npt.NDArray[np.int16],
    frames: SlidingWindow,
    min_speakers: int,
) -> SlidingWindowFeature:
    """How active each speaker is in each frame, over all windows: (num_frames, num_speakers).

    Like pyannote's `reconstruct` but without its loop over all frames. At least `min_speakers`
    columns, for frames with more speakers than there are clusters.
    """
    num_windows, num_frames, _ = activity.data.shape
    num_speakers = int(labels.max()) + 1
    clustered = np.full((num_windows, num_frames, num_speakers), np.nan)
    for window, (own, scores) in enumerate(zip(labels, activity.data, strict=True)):
        for speaker in np.unique(own[own != INACTIVE]):
            clustered[window, :, speaker] = scores[:, own == speaker].max(axis=1)
    aggregated = Inference.aggregate(
        SlidingWindowFeature(clustered, activity.sliding_window),
        frames,
        hamming=False,
        missing=0.0,
        skip_average=True,
    )
    missing = max(0, min_speakers - num_speakers)
    return SlidingWindowFeature(
        np.pad(aggregated.data, ((0, 0), (0, missing))), aggregated.sliding_window
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


def fold_batch_norms(model: nn.Module) -> None:
    """Make a WeSpeaker ResNet take two thirds of the time on a CPU, with the same outputs: batch
    norms are folded into the convolutions before them, and channels become the last dimension.
    """
    if not isinstance(model, BaseWeSpeakerResNet):
        return
    module: Any
    for module in model.modules():
        for conv, norm in (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3")):
            if hasattr(module, conv) and hasattr(module, norm):
                fused = fuse_conv_bn_eval(getattr(module, conv), getattr(module, norm))
                setattr(module, conv, fused)
                setattr(module, norm, nn.Identity())
        shortcut: Any = getattr(module, "shortcut", None)
        if isinstance(shortcut, nn.Sequential) and len(shortcut) == 2:
            conv_and_norm: Any = tuple(shortcut)
            module.shortcut = nn.Sequential(fuse_conv_bn_eval(*conv_and_norm))
    model.resnet.to(memory_format=torch.channels_last)


def _override(pipeline: Any, params: Mapping[str, Mapping[str, Any]]) -> None:
    merged = {
        group: dict(values) for group, values in pipeline.parameters(instantiated=True).items()
    }
    for group, values in params.items():
        unknown = set(values) - set(merged.get(group, {}))
        if group not in merged or unknown:
            raise ModelUnavailable(
                f"The diarization pipeline has no parameter {group}."
                f"{', '.join(sorted(unknown)) or '*'}; it has {merged}."
            )
        merged[group].update(values)
    pipeline.instantiate(merged)


def _to_diarization(
    overlapping: Annotation,
    exclusive: Annotation,
    centroids: npt.NDArray[np.float64],
    duration_s: float,
) -> Diarization:
    """Speakers are numbered in the order of their first turns."""
    first_heard: dict[int, float] = {}
    for turn, _, label in overlapping.itertracks(yield_label=True):
        first_heard[label] = min(first_heard.get(label, math.inf), turn.start)
    ordered = sorted(first_heard, key=lambda label: (first_heard[label], label))
    names = {label: f"SPEAKER_{i:02d}" for i, label in enumerate(ordered)}

    def turns(annotation: Annotation) -> tuple[Turn, ...]:
        found = []
        for turn, _, label in annotation.itertracks(yield_label=True):
            start_s, end_s = max(0.0, turn.start), min(duration_s, turn.end)
            if end_s > start_s and label in names:
                found.append(Turn(start_s, end_s, names[label]))
        return tuple(found)

    embeddings = {
        name: tuple(float(x) for x in centroids[label])
        for label, name in names.items()
        if label < len(centroids)
    }
    return Diarization(turns(overlapping), turns(exclusive), embeddings)
