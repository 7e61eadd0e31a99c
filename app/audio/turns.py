"""Whose file is decoded next: the client who has used least goes first."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

HALF_LIFE_S = 60.0  # after this long, what a client has used counts half
FORGOTTEN_S = 0.05  # less than this much is not kept


@dataclass(eq=False, slots=True)
class Task:
    """One call for a decoding process. `client`: whose turn it takes. `small`: it ends soon.

    `started`: time.monotonic() when a process took it. `cpu_s`: what it has cost so far.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    client: Hashable = ""
    small: bool = False
    future: Future[Any] = field(default_factory=Future)
    started: float | None = None
    cpu_s: float = 0.0


@dataclass(slots=True)
class _Spent:
    """CPU seconds that fade with time."""

    seconds: float
    at: float

    def left_s(self, now: float) -> float:
        return float(self.seconds * 0.5 ** ((now - self.at) / HALF_LIFE_S))


class Turns:
    """The tasks that wait, and what each client has used of late. Not thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waiting: list[Task] = []
        self._running: Counter[Hashable] = Counter()
        self._spent: dict[Hashable, _Spent] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, task: Task) -> None:
        self._waiting.append(task)

    def discard(self, task: Task) -> None:
        if task in self._waiting:
            self._waiting.remove(task)

    def take(self, newcomers: bool = False) -> Task | None:
        """The next task, which counts as running from now on. `newcomers`: only a small task of a
        client for whom nothing runs.
        """
        possible = self._waiting
        if newcomers:
            possible = [t for t in possible if t.small and not self._running[t.client]]
        if not possible:
            return None
        now = self._clock()
        task = min(possible, key=lambda t: (self._running[t.client], self._used_s(t.client, now)))
        self._waiting.remove(task)
        self._running[task.client] += 1
        return task

    def done(self, task: Task) -> None:
        """A task that was taken has ended."""
        self._running[task.client] -= 1
        self._running += Counter()  # without those at 0
        now = self._clock()
        self._spent[task.client] = _Spent(self._used_s(task.client, now) + task.cpu_s, now)
        self._spent = {c: s for c, s in self._spent.items() if s.left_s(now) > FORGOTTEN_S}

    def _used_s(self, client: Hashable, now: float) -> float:
        spent = self._spent.get(client)
        return spent.left_s(now) if spent else 0.0
