"""Background work: it takes the room that the rest leaves, yet is never left out for good."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable

# Without a batch of background work for this long, such work counts like any other until it had
# one. A batch takes seconds, so this costs the rest a few percent of a busy device at most.
PATIENCE_S = 30.0


class Patience:
    """Tells who can wait until nobody else has work for a device.

    An owner is background work if it has a `background_since`, the time.monotonic() of its start.
    """

    def __init__(self) -> None:
        self._served = 0.0  # when background work last had a batch

    def can_wait(self, owner: Hashable) -> bool:
        since: float | None = getattr(owner, "background_since", None)
        return since is not None and time.monotonic() < max(since, self._served) + PATIENCE_S

    def served(self, owners: Iterable[Hashable]) -> None:
        """These owners have had a batch."""
        if any(getattr(owner, "background_since", None) is not None for owner in owners):
            self._served = time.monotonic()
