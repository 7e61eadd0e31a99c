"""A replacement for scipy's `linkage`, which `SpeakerClustering` puts into pyannote's module.

scipy holds the GIL during all of `linkage`: half a second for an hour of audio, many seconds for a
long meeting, and meanwhile the service does not even answer /health. pyannote calls scipy through a
name in its own module and has no option for another function, so that name is replaced, for the
whole process. The results are the same. Large inputs go to a separate process, which also frees the
memory of all pairwise distances at once when it ends.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import numpy.typing as npt
from scipy.cluster import hierarchy

INLINE_ROWS = 1000  # below this, scipy holds the GIL for less than 10 ms

Matrix = npt.NDArray[np.float64]


def linkage(embeddings: Matrix, method: str = "single", metric: str = "euclidean") -> Matrix:
    """What `scipy.cluster.hierarchy.linkage` returns: float64 (num_embeddings - 1, 4)."""
    if len(embeddings) < INLINE_ROWS:
        return _linkage(embeddings, method, metric)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_linkage, embeddings, method, metric).result()


def _linkage(embeddings: Matrix, method: str, metric: str) -> Matrix:
    dendrogram: Matrix = hierarchy.linkage(embeddings, method=method, metric=metric)
    return dendrogram
