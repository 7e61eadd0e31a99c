"""Local speakers of all windows -> speakers of the recording, with pyannote's own clustering.

pyannote compares every embedding with every other, so memory and time grow with the square of the
length. A recording beyond a limit is clustered in parts; the speakers of the parts are then joined
by their centroids, in which hours of speech average out the noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from pyannote.audio.pipelines import clustering as pyannote_clustering
from pyannote.core import SlidingWindowFeature
from scipy.cluster.hierarchy import fcluster
from scipy.cluster.hierarchy import linkage as condensed_linkage
from scipy.spatial.distance import pdist, squareform

from app.domain.options import SpeakerBounds
from app.models.pyannote.linkage import linkage

# In cosine distance, centroids of one voice in two parts are closer than this, those of two voices
# farther apart: measured with the demo's embeddings and with WeSpeaker's.
JOIN_DISTANCE = 0.4
NEVER = 1e3  # the distance of two speakers of one part: they are different for sure

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Clusters:
    """`labels`: int16 (num_windows, num_local_speakers), the speaker of each local speaker.

    `centroids`: float64 (num_speakers, dimension), finite. `max_speakers`: at one time.
    """

    labels: npt.NDArray[np.int16]
    centroids: Matrix
    max_speakers: float


class SpeakerClustering:
    """A pipeline's clustering, guarded so that it never fails. Any thread."""

    def __init__(self, pipeline: Any, step_s: float, part_s: float) -> None:
        """`part_s`: recordings longer than this are clustered in parts."""
        pyannote_clustering.linkage = linkage  # see linkage.py
        self._clustering = pipeline.clustering
        self._part_windows = max(1.0, part_s / step_s)

    def cluster(
        self, embeddings: npt.NDArray[np.float32], binary: SlidingWindowFeature, wish: SpeakerBounds
    ) -> Clusters:
        """`embeddings`: (num_windows, num_local_speakers, dimension); `binary`: their activity,
        (num_windows, num_frames, num_local_speakers)."""
        num_parts = math.ceil(len(embeddings) / self._part_windows)
        if num_parts <= 1:
            return self._cluster_part(embeddings, binary, wish)
        # it is not known how many of the speakers occur in each part
        most = wish.num_speakers or wish.max_speakers
        edges = np.linspace(0, len(embeddings), num_parts + 1).astype(int)
        parts = [
            self._cluster_part(
                embeddings[begin:end],
                SlidingWindowFeature(binary.data[begin:end], binary.sliding_window),
                SpeakerBounds(max_speakers=most),
            )
            for begin, end in pairwise(edges)
        ]
        return _join_parts(parts, wish)

    def _cluster_part(
        self, embeddings: npt.NDArray[np.float32], binary: SlidingWindowFeature, wish: SpeakerBounds
    ) -> Clusters:
        """There cannot be more speakers than distinct embeddings. Asking for more is not an error
        here, but is one in pyannote's VBx (through KMeans).
        """
        trained, _, _ = self._clustering.filter_embeddings(embeddings, segmentations=binary)
        available = max(1, len(np.unique(trained, axis=0)))
        num = None if wish.num_speakers is None else min(wish.num_speakers, available)
        least = num or min(wish.min_speakers or 1, available)
        most = num or wish.max_speakers or math.inf
        if len(trained) == 0:  # only scraps of speech, too short to tell anybody apart
            alone = np.zeros(embeddings.shape[:2], np.int16)
            return Clusters(alone, _mean_embedding(embeddings), most)
        labels, _, centroids = self._clustering(
            embeddings=embeddings.astype(np.float64),
            segmentations=binary,
            num_clusters=int(least) if least == most else num,
            min_clusters=least,
            max_clusters=most,
        )
        return Clusters(np.array(labels, np.int16), np.nan_to_num(centroids), most)


def _mean_embedding(embeddings: npt.NDArray[np.float32]) -> Matrix:
    flat = embeddings.reshape(-1, embeddings.shape[-1]).astype(np.float64)
    finite = flat[np.isfinite(flat).all(axis=1)]
    if len(finite) == 0:
        return np.zeros((1, flat.shape[1]))
    mean: Matrix = finite.mean(axis=0, keepdims=True)
    return mean


def _join_parts(parts: Sequence[Clusters], wish: SpeakerBounds) -> Clusters:
    """Number the speakers of all parts together."""
    owner = np.concatenate([np.full(len(p.centroids), i) for i, p in enumerate(parts)])
    centroids = np.concatenate([p.centroids for p in parts])
    weights = np.concatenate(
        [[np.sum(p.labels == k) for k in range(len(p.centroids))] for p in parts]
    )
    speaker_of = join_centroids(centroids, owner, wish)
    num_speakers = int(speaker_of.max()) + 1
    joined = np.stack(
        [
            np.average(centroids[speaker_of == k], axis=0, weights=weights[speaker_of == k] + 1e-6)
            for k in range(num_speakers)
        ]
    )
    firsts = np.cumsum([0] + [len(p.centroids) for p in parts[:-1]])
    labels = [
        np.where(p.labels < 0, p.labels, speaker_of[first + np.maximum(p.labels, 0)])
        for p, first in zip(parts, firsts, strict=True)
    ]
    most = wish.num_speakers or wish.max_speakers or math.inf
    return Clusters(np.concatenate(labels).astype(np.int16), joined, most)


def join_centroids(
    centroids: Matrix, part: npt.NDArray[np.int64], wish: SpeakerBounds
) -> npt.NDArray[np.int64]:
    """The speaker of each centroid, int64 (num_centroids,). `part`: the part of each centroid.

    Average linkage in cosine distance, where speakers of one part stay apart; then as few or as
    many speakers as `wish` asks for, if possible.
    """
    if len(centroids) == 1:
        return np.zeros(1, np.int64)
    lengths = np.linalg.norm(centroids, axis=1, keepdims=True)
    distances = squareform(pdist(centroids / np.maximum(lengths, 1e-12), "cosine"))
    distances = np.nan_to_num(distances, nan=2.0)
    distances[part[:, None] == part[None, :]] = NEVER
    np.fill_diagonal(distances, 0.0)
    dendrogram = condensed_linkage(squareform(distances, checks=False), method="average")
    found = fcluster(dendrogram, JOIN_DISTANCE, criterion="distance")
    least = wish.num_speakers or wish.min_speakers or 1
    most = wish.num_speakers or wish.max_speakers or math.inf
    if not least <= len(np.unique(found)) <= most:
        wanted = max(least, min(len(np.unique(found)), most))
        found = fcluster(dendrogram, int(wanted), criterion="maxclust")
    _, speaker_of = np.unique(found, return_inverse=True)
    return speaker_of.astype(np.int64)
