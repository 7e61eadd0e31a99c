"""Speakers: who says the utterances of a stream, by their voices. Pure.

Diarization tells the voices of one utterance apart. Each gets the name of a known voice, or the
label of the nearest speaker so far. At the end the voices of all utterances are clustered, which
corrects what was not to be known earlier.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import fcluster

from app.models.pyannote.linkage import INLINE_ROWS, linkage
from app.pipeline.voices import match_voices

MOST_VOICES = INLINE_ROWS - 1  # that are clustered; later ones follow their labels
SURE_S = 1.0  # shorter voices are poor: they found no cluster if there are longer ones

Vector = npt.NDArray[np.float64]
Voices = Mapping[str, Sequence[float]]
Key = tuple[int, str]  # an utterance, and a voice in it


@dataclass(frozen=True, slots=True)
class _Heard:
    voice: Vector  # of length 1
    seconds: float
    label: str


class Speakers:
    """`similarity`: cosine of two voices from which on they are one speaker's."""

    def __init__(self, similarity: float) -> None:
        self._similarity = similarity
        self._known: dict[str, Vector] = {}
        self._sums: dict[str, Vector] = {}  # by label
        self._heard: dict[Key, _Heard] = {}
        self._later: dict[Key, str] = {}

    def know(self, voices: Voices) -> None:
        """The known voices from now on."""
        self._known = {name: _unit(voice) for name, voice in voices.items()}

    def label(self, utterance: int, voices: Voices, seconds: Mapping[str, float]) -> dict[str, str]:
        """The speaker of each voice of a new utterance, in which it speaks for so many seconds."""
        return {
            own: self._label((utterance, own), _unit(voice), seconds.get(own, 0.0))
            for own, voice in voices.items()
        }

    def _label(self, key: Key, voice: Vector, seconds: float) -> str:
        label = self._nearest(self._known, voice) or self._nearest(self._sums, voice)
        if label is None:
            label = _free_number(self._sums.keys() | self._known.keys())
        total = self._sums.get(label, np.zeros_like(voice))
        self._sums[label] = total + voice * max(seconds, 0.1)
        first = next(iter(self._heard.values()), None)
        suits = first is None or len(first.voice) == len(voice)  # else it is of another model
        if suits and len(self._heard) < MOST_VOICES:
            self._heard[key] = _Heard(voice, seconds, label)
        else:
            self._later[key] = label
        return label

    def _nearest(self, voices: Mapping[str, Vector], voice: Vector) -> str | None:
        alike = {
            name: float(_unit(other) @ voice)
            for name, other in voices.items()
            if len(other) == len(voice)  # known voices may be those of another model
        }
        nearest = max(alike, key=alike.__getitem__, default=None)
        return nearest if nearest is not None and alike[nearest] >= self._similarity else None

    def corrected(self) -> dict[Key, str]:
        """The speaker of each voice, now that all are known."""
        if not self._heard:
            return {}
        names = self._names(self._clusters())
        labels: dict[str, Counter[str]] = {}
        for key, name in names.items():
            labels.setdefault(self._heard[key].label, Counter())[name] += 1
        renamed = {label: found.most_common(1)[0][0] for label, found in labels.items()}
        for label in self._later.values():
            if label not in renamed:
                known = label in self._known
                renamed[label] = label if known else _free_number(renamed.values())
        return names | {key: renamed[label] for key, label in self._later.items()}

    def _clusters(self) -> dict[Key, int]:
        sure = [key for key, heard in self._heard.items() if heard.seconds >= SURE_S]
        sure = sure or list(self._heard)
        rows = np.stack([self._heard[key].voice for key in sure])
        found = np.ones(1, int)
        if len(rows) > 1:
            distance = 1 - self._similarity
            found = fcluster(linkage(rows, "average", "cosine"), distance, "distance")
        clusters = dict(zip(sure, map(int, found), strict=True))
        centers = {c: _unit(rows[found == c].sum(0)) for c in set(clusters.values())}
        return {
            key: clusters.get(key) or max(centers, key=lambda c: float(centers[c] @ heard.voice))
            for key, heard in self._heard.items()
        }

    def _names(self, clusters: Mapping[Key, int]) -> dict[Key, str]:
        """Known names where they fit, else numbers in the order of the first utterance."""
        centers: dict[str, Vector] = {}
        for key, cluster in clusters.items():
            heard = self._heard[key]
            own = centers.get(str(cluster), np.zeros_like(heard.voice))
            centers[str(cluster)] = own + heard.voice * max(heard.seconds, 0.1)
        size = len(next(iter(centers.values())))
        known = {name: tuple(v) for name, v in self._known.items() if len(v) == size}
        alike = match_voices({c: tuple(v) for c, v in centers.items()}, known, self._similarity)
        strangers = [cluster for cluster in centers if cluster not in alike]
        names = alike | {cluster: _number(i) for i, cluster in enumerate(strangers)}
        return {key: names[str(cluster)] for key, cluster in clusters.items()}


def _unit(vector: Sequence[float] | Vector) -> Vector:
    array = np.nan_to_num(np.asarray(vector, np.float64))
    length = float(np.linalg.norm(array))
    if not length:  # has no direction, which cosines need
        array = np.ones_like(array)
        length = float(np.linalg.norm(array))
    return array / length


def _number(number: int) -> str:
    return f"SPEAKER_{number:02d}"


def _free_number(taken: Collection[str]) -> str:
    return next(label for label in map(_number, itertools.count()) if label not in taken)
