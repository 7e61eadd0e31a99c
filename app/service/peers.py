"""Peers: the other processes of a service that is spread over several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from prometheus_client import Metric

from app.service.admission import QueueEntry

Figures = Sequence[Metric]


class Peers(Protocol):
    """All methods may block for a moment. A process that does not answer in time is left out."""

    @property
    def own_name(self) -> str:
        """Of this process, as label of its figures; empty if it is alone."""

    def figures(self) -> dict[str, Figures]:
        """Those of the others, by name."""

    def entries(self) -> list[QueueEntry]:
        """What is under way in the others."""

    def cancel(self, request_id: str, client: str) -> bool:
        """Cancel a request in one of the others. False if none has it.

        Raises:
            Forbidden: it belongs to another client.
        """


class Alone:
    """Implements `Peers`: there are no others."""

    own_name = ""

    def figures(self) -> dict[str, Figures]:
        return {}

    def entries(self) -> list[QueueEntry]:
        return []

    def cancel(self, request_id: str, client: str) -> bool:
        return False


ALONE = Alone()
