"""LoadedModels: which models are in memory, who uses them, and which one is to go next."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import cachetools

from app.engine.model import ModelKey


class LoadedModel(Protocol):
    @property
    def memory_bytes(self) -> int: ...

    @property
    def alive(self) -> bool: ...

    @property
    def busy_s(self) -> float:
        """Seconds since its current call began; 0 if there is none."""

    def close(self) -> None:
        """Return once the weights are gone."""


@dataclass(slots=True)
class Entry:
    """`closing`: it is being unloaded, and nobody may lease it any more. `awaited`: those who
    waited for it are about to lease it; it must not make room for others before.
    """

    model: LoadedModel
    last_used: float
    num_leases: int = 0
    closing: bool = False
    awaited: bool = False

    @property
    def idle(self) -> bool:
        return self.num_leases == 0 and not self.closing and not self.awaited


Listed: TypeAlias = tuple[ModelKey, Entry]


class LoadedModels:
    """Not thread-safe: its owner holds a lock. cachetools counts the memory, but would evict models
    in use, too."""

    def __init__(self, max_models: int, max_bytes: float, idle_timeout_s: float) -> None:
        self._max_models = max_models
        self._max_bytes = max_bytes
        self._idle_timeout_s = idle_timeout_s
        self._entries: cachetools.Cache[ModelKey, Entry] = cachetools.Cache(
            math.inf, getsizeof=lambda entry: entry.model.memory_bytes
        )

    def get(self, key: ModelKey) -> Entry | None:
        return self._entries.get(key)

    def add(self, key: ModelKey, entry: Entry) -> None:
        self._entries[key] = entry

    def remove(self, key: ModelKey, entry: Entry) -> None:
        """Unless another one has taken its place."""
        if self._entries.get(key) is entry:
            del self._entries[key]

    def items(self) -> Iterable[Listed]:
        return list(self._entries.items())

    def oldest_idle(self) -> Listed | None:
        """The model that nobody has used for the longest time."""
        idle = [(key, entry) for key, entry in self._entries.items() if entry.idle]
        return min(idle, key=lambda pair: pair[1].last_used, default=None)

    def surplus(self, num_coming: int = 0) -> Listed | None:
        """The model to unload next, until the limits hold with so many more; None if they do, or
        if all are in use."""
        too_many = len(self._entries) + num_coming > self._max_models
        too_large = self._entries.currsize > self._max_bytes
        return self.oldest_idle() if too_many or too_large else None

    def due_s(self, now: float) -> float:
        """Seconds until a model has been idle for too long; infinite if none will be."""
        oldest = self.oldest_idle()
        return math.inf if oldest is None else oldest[1].last_used + self._idle_timeout_s - now
