"""A run: one attempt of one process at a job."""

from __future__ import annotations

from dataclasses import dataclass

from app.jobs.job import Job, JobStep


class Superseded(Exception):
    """Another run has taken this one's place."""


@dataclass(frozen=True, slots=True)
class Run:
    """One attempt at a job."""

    id: str
    job: Job


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is. `progress`: 0 to 100."""

    step: JobStep
    progress: float
    audio_s: float | None = None
