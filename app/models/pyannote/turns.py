"""Turns: from who is active in each window to who speaks when, in the whole recording."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from pyannote.audio import Inference
from pyannote.core import Annotation, SlidingWindow, SlidingWindowFeature

from app.domain.transcript import Diarization, Turn

INACTIVE = -2  # pyannote's label for "belongs to no cluster"


def aggregate(
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


def to_diarization(
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
