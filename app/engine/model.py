"""What a model must do to be batched, and how models are named."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePath
from typing import Protocol, TypeVar

Item = TypeVar("Item", contravariant=True)
Outcome = TypeVar("Outcome")


class BatchModel(Protocol[Item, Outcome]):
    """A model that works on several items at once. `num_workers`: how many calls of `run` at the
    same time, each in a thread of its own, are faster than one after the other.
    """

    batch_size: int
    num_workers: int
    memory_bytes: int

    def batch_key(self, item: Item) -> Hashable:
        """Items with equal keys may share a batch. Any thread."""

    def audio_s(self, item: Item) -> float:
        """Seconds of audio, a measure of how long the item takes. Any thread."""

    def run(self, items: Sequence[Item]) -> list[Outcome]:
        """One outcome per item, in order; all items have the same key."""

    def close(self) -> None:
        """Drop the weights and free their memory."""


class ModelKind(StrEnum):
    """What a model does. The values are metric labels and appear in messages."""

    VAD = "vad"
    RECOGNIZER = "recognizer"
    ALIGNER = "aligner"
    DIARIZER = "diarizer"


OPTIONAL_KINDS = (ModelKind.ALIGNER, ModelKind.DIARIZER)


@dataclass(frozen=True, slots=True)
class ModelKey:
    """Identifies a loaded model."""

    kind: ModelKind
    name: str
    source: str
    language: str = ""

    @property
    def short_name(self) -> str:
        """Safe to show to clients: a local folder without its path."""
        return PurePath(self.name).name

    @property
    def optional(self) -> bool:
        """Whether a request can go on without it."""
        return self.kind in OPTIONAL_KINDS
