"""Ticket: what the service knows about a request that it has admitted, without its content."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from app.domain.errors import ServiceError
from app.engine.work import Work


@dataclass(slots=True)
class Ticket:
    """A request, from the first byte of its upload to the end of its answer, without its content.

    `audio_s` is known once the upload is decoded, `model` once the form is read. `client` is the
    name of its API key, if any; `account` tells whose share of the places it takes. Once it
    `gave_way`, it is cancelled and has no place any more. `work_s`: of its audio, what has sound.
    Background work is on the list, but has no place: it neither takes one from others nor loses it.
    `source`: the ticket of what is computed for it, perhaps for others, too, which has the audio.
    """

    work: Work
    kind: str
    started: float
    client: str = ""
    model: str = ""
    audio_s: float | None = None
    work_s: float = 0.0
    account: str = ""
    gave_way: bool = False
    source: Ticket | None = None

    @property
    def has_place(self) -> bool:
        return not (self.gave_way or self.work.background)

    @property
    def begun(self) -> bool:
        """Whether models have worked for it."""
        return self.work.progress > 0

    def computed_by(self, work: Work) -> Ticket:
        """The ticket of what is computed for it."""
        return replace(self, work=work, started=time.monotonic(), source=None)

    def give_way(self, reason: ServiceError) -> None:
        self.gave_way = True
        self.work.cancel(reason)
