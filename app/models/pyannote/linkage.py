"""scipy's hierarchical clustering without its grip on the interpreter.

scipy holds the GIL all through `linkage`: half a second for an hour of audio, many for a long
meeting, in which not even /health is answered. Large inputs are clustered in a process of their
own, which also gives the memory of all pairwise distances back at once.
"""

from __future__ import annotations

import multiprocessing
from typing import Any

import numpy as np
import numpy.typing as npt
from pebble import ProcessPool
from scipy.cluster import hierarchy

INLINE_ROWS = 1000  # below, the GIL is held for less than a hundredth of a second

Matrix = npt.NDArray[np.float64]


def linkage(embeddings: Matrix, method: str = "single", metric: str = "euclidean") -> Matrix:
    """As `scipy.cluster.hierarchy.linkage` for observations: float64 (num_embeddings - 1, 4)."""
    if len(embeddings) < INLINE_ROWS:
        return _linkage(embeddings, method, metric)
    with ProcessPool(1, context=multiprocessing.get_context("spawn")) as pool:
        future: Any = pool.schedule(_linkage, args=(embeddings, method, metric))
        dendrogram: Matrix = future.result()
    return dendrogram


def _linkage(embeddings: Matrix, method: str, metric: str) -> Matrix:
    dendrogram: Matrix = hierarchy.linkage(embeddings, method=method, metric=metric)
    return dendrogram
