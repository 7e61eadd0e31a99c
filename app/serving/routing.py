"""Which transcriber a request goes to. Pure.

One that has the model goes first: loading takes longer than waiting. Among those, the busiest that
is not full: its batches are fuller, and the others stay free to end. If all are full, the one with
the least to do.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

# A request goes to a transcriber without its model if all that have it are so many times as full as
# they should be: then loading it once more is worth it.
SPILL = 3.0

Id = TypeVar("Id", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Candidate(Generic[Id]):
    """A transcriber. `queued_s`: seconds of audio that it still has to do."""

    id: Id
    models: frozenset[str]
    queued_s: float


def ranked(candidates: Sequence[Candidate[Id]], model: str, full_s: float) -> list[Id]:
    """The transcribers, best first. `full_s`: seconds of audio that make one full."""

    def rank(candidate: Candidate[Id]) -> tuple[int, float]:
        has_model = model in candidate.models
        if candidate.queued_s < full_s:
            return (0, -candidate.queued_s) if has_model else (2, candidate.queued_s)
        if has_model and candidate.queued_s < SPILL * full_s:
            return 1, candidate.queued_s
        return 3, candidate.queued_s

    return [candidate.id for candidate in sorted(candidates, key=rank)]
