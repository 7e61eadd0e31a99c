"""Urgent work: somebody speaks, and the words are wanted at once.

A device that cannot pause in the middle of a batch keeps its batches short as long as there is
such work, and lets it go first every other time: it must not starve what else there is.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Iterable

SPEAKING_S = 3.0  # after urgent work, more is to be expected
SHORT_S = 0.5  # that a batch may take meanwhile, as far as is known


def is_urgent(owner: Hashable) -> bool:
    return bool(getattr(owner, "urgent", False))


class Urgency:
    """Of one model, or of one device."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until = -math.inf
        self._turn = True

    @property
    def lasts(self) -> bool:
        """Whether there was urgent work a moment ago."""
        return self._clock() < self._until

    def note(self, owner: Hashable) -> None:
        """This owner has work, or will have some soon."""
        if is_urgent(owner):
            self._until = self._clock() + SPEAKING_S

    def goes_first(self, owner: Hashable) -> bool:
        return self._turn and is_urgent(owner)

    def served(self, owners: Iterable[Hashable]) -> None:
        """These owners have had a batch."""
        owners = list(owners)
        if owners:
            self._turn = not any(map(is_urgent, owners))
