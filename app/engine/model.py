"""What a model must do to be batched, and how models are named."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Protocol, TypeVar

Item = TypeVar("Item", contravariant=True)
Outcome = TypeVar("Outcome")


class BatchModel(Protocol[Item, Outcome]):
    """A model that works on several items at once."""

    batch_size: int
    memory_bytes: int

    def batch_key(self, item: Item) -> Hashable:
        """Items may share a batch where their keys are equal. Any thread."""

    def audio_s(self, item: Item) -> float:
        """Seconds of audio, by which the time goes that an item takes. Any thread."""

    def run(self, items: Sequence[Item]) -> list[Outcome]:
        """One outcome per item, in order; all items have the same key."""

    def close(self) -> None:
        """Drop the weights and give their memory back."""


@dataclass(frozen=True, slots=True)
class ModelKey:
    """What a loaded model is known by. `kind`: recognizer, aligner, diarizer or vad."""

    kind: str
    name: str
    source: str
    language: str = ""

    @property
    def short_name(self) -> str:
        """For whoever may see no path: a local folder by its own name."""
        return PurePath(self.name).name

    @property
    def optional(self) -> bool:
        """Whether a transcript can do without."""
        return self.kind in ("aligner", "diarizer")
