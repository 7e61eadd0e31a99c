"""Matches the speakers of a recording with known voices by their embeddings. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from app.domain.transcript import Diarization, Turn

LEAST = -1.0  # the lowest cosine

Embeddings = Mapping[str, Sequence[float]]


def match_voices(speakers: Embeddings, known: Embeddings, min_similarity: float) -> dict[str, str]:
    """For each speaker who is a known voice, the voice's name. A voice matches one speaker at most.
    The pairs have the highest total similarity; none has a cosine below `min_similarity`.
    """
    if not speakers or not known:
        return {}
    similarity = _unit_rows(speakers) @ _unit_rows(known).T
    labels, names = list(speakers), list(known)
    # pairs below the limit must not break up a pair that fits
    rows, columns = linear_sum_assignment(
        np.where(similarity < min_similarity, LEAST, similarity), maximize=True
    )
    return {
        labels[row]: names[column]
        for row, column in zip(rows, columns, strict=True)
        if similarity[row, column] >= min_similarity
    }


def _unit_rows(embeddings: Embeddings) -> npt.NDArray[np.float64]:
    vectors = np.asarray(list(embeddings.values()), np.float64)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    rows: npt.NDArray[np.float64] = vectors / np.maximum(norms, np.finfo(np.float64).tiny)
    return rows


def rename_speakers(diarization: Diarization, names: Mapping[str, str]) -> Diarization:
    """The diarization with speakers renamed by `names`; the others keep theirs."""

    def renamed(turns: Sequence[Turn]) -> tuple[Turn, ...]:
        return tuple(replace(t, speaker=names.get(t.speaker, t.speaker)) for t in turns)

    return replace(
        diarization,
        turns=renamed(diarization.turns),
        exclusive_turns=renamed(diarization.exclusive_turns),
        embeddings={names.get(s, s): vector for s, vector in diarization.embeddings.items()},
    )
