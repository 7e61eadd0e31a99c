"""Speakers: who says the utterances of a stream, by their voices. Pure.

Each utterance gets the label of the nearest voice so far. At the end all voices are clustered,
which corrects what was not to be known earlier.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

MOST_VOICES = 500  # that are kept; later utterances only get a label

Voice = npt.NDArray[np.float64]


class Speakers:
    """`similarity`: cosine of two voices from which on they are one speaker's."""

    def __init__(self, similarity: float) -> None:
        self._similarity = similarity
        self._sums: list[Voice] = []  # by speaker
        self._voices: dict[int, Voice] = {}  # by utterance

    def label(self, utterance: int, embedding: Sequence[float]) -> str:
        """The speaker of a new utterance."""
        voice = _unit(np.asarray(embedding, np.float64))
        if len(self._voices) < MOST_VOICES:
            self._voices[utterance] = voice
        alike = [float(_unit(total) @ voice) for total in self._sums]
        if not alike or max(alike) < self._similarity:
            self._sums.append(voice)
            return _name(len(self._sums) - 1)
        nearest = int(np.argmax(alike))
        self._sums[nearest] = self._sums[nearest] + voice
        return _name(nearest)

    def corrected(self) -> Mapping[int, str]:
        """The speaker of each utterance, now that all are known."""
        clusters = [([utterance], voice) for utterance, voice in self._voices.items()]
        while len(clusters) > 1:
            means = np.stack([_unit(total) for _, total in clusters])
            alike = means @ means.T - 2 * np.eye(len(means))
            first, second = sorted(divmod(int(np.argmax(alike)), len(means)))
            if alike[first, second] < self._similarity:
                break
            members, total = clusters.pop(second)
            clusters[first] = ([*clusters[first][0], *members], clusters[first][1] + total)
        clusters.sort(key=lambda cluster: min(cluster[0]))
        found = [(u, _name(i)) for i, (members, _) in enumerate(clusters) for u in members]
        return dict(sorted(found))


def _unit(vector: Voice) -> Voice:
    length = float(np.linalg.norm(vector))
    return vector / length if length else vector


def _name(number: int) -> str:
    return f"SPEAKER_{number:02d}"
