"""Door: an interface that accepts jobs. It publishes their results, and says who is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from pydantic import JsonValue

from app.domain.errors import UnsupportedOption
from app.domain.transcript import Transcript
from app.engine.work import Work
from app.jobs.job import Job


@dataclass(frozen=True, slots=True)
class Notice:
    """A webhook to send. `form`: whose headers are added when it is sent, such as a signature."""

    url: str
    body: bytes
    form: str = "standard"
    headers: Mapping[str, str] = field(default_factory=dict)


class Door(Protocol):
    def publish(self, job: Job, transcript: Transcript, work: Work) -> dict[str, JsonValue]:
        """Put the result where this door's clients look for it. Facts to keep with the job.

        Raises:
            ServiceError: tried again unless `is_permanent`.
        """

    def notice(self, job: Job, transcript: Transcript | None) -> Notice | None:
        """Whom to tell that a job has ended. `transcript` None: it has none."""


class UnknownDoors(dict[str, Door]):
    """Doors by name; a job of a door that this process lacks fails with a clear sentence."""

    def __missing__(self, name: str) -> Door:
        raise UnsupportedOption(f"This service does not publish results of {name!r}.")
