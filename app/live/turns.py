"""Turns: whose utterance is transcribed next, if there are more than threads for them.

A client with many utterances must not keep others waiting. The next one is of the client with the
fewest under way, and among those of the one whose turn was longest ago; the same holds for the
sessions of a client. A session gets few at once, in their order.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter, deque
from collections.abc import Callable, Hashable
from concurrent.futures import CancelledError, Future
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from app.domain.errors import ServiceError, ShuttingDown
from app.service.threads import Threads

MOST_AT_ONCE = 3  # of one session

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Place:
    """For whom a job is done: a `session` of a `client`."""

    client: Hashable
    session: Hashable


@dataclass(frozen=True, slots=True)
class _Job(Generic[T]):
    place: Place
    run: Callable[[], T]
    future: Future[T]


class Turns:
    """Runs jobs in `threads`, at most `num_at_once` at a time. Any thread."""

    def __init__(self, threads: Threads, num_at_once: int) -> None:
        self._threads = threads
        self._num_at_once = num_at_once
        self._lock = threading.Lock()
        self._waiting: dict[Place, deque[_Job[Any]]] = {}
        # By place, and by client.
        self._running: Counter[Hashable] = Counter()
        self._last: dict[Hashable, int] = {}  # turn of those who have something to do
        self._turns = itertools.count(1)

    def start(self, place: Place, job: Callable[[], T]) -> Future[T]:
        """Run a job when it is its turn. Its log lines carry the request's id."""
        run = partial(copy_context().run, job)
        waiting = _Job(place, run, Future[T]())
        with self._lock:
            self._waiting.setdefault(place, deque()).append(waiting)
        self._fill()
        return waiting.future

    def _fill(self) -> None:
        """Start what may run now."""
        while (job := self._next()) is not None:
            try:
                running = self._threads.start(job.run)
            except ServiceError as error:
                self._leave(job.place)
                job.future.set_exception(error)
            else:
                running.add_done_callback(partial(self._done, job))

    def _next(self) -> _Job[Any] | None:
        """Take the job whose turn it is. None if nobody waits, or enough is under way."""
        with self._lock:
            while self._running.total() < 2 * self._num_at_once:  # each counts twice
                place = min(self._may_start(), key=self._order, default=None)
                if place is None:
                    return None
                job = self._pop(place)
                if job.future.set_running_or_notify_cancel():
                    self._running.update((place, place.client))
                    self._last[place] = self._last[place.client] = next(self._turns)
                    return job
            return None

    def _may_start(self) -> list[Place]:
        return [place for place in self._waiting if self._running[place] < MOST_AT_ONCE]

    def _order(self, place: Place) -> tuple[int, ...]:
        """First the client counts, then the session."""
        both = (place.client, place)
        return tuple(n for of in both for n in (self._running[of], self._last.get(of, 0)))

    def _pop(self, place: Place) -> _Job[Any]:
        jobs = self._waiting[place]
        job = jobs.popleft()
        if not jobs:
            del self._waiting[place]
        return job

    def _done(self, job: _Job[T], done: Future[T]) -> None:
        self._leave(job.place)
        self._fill()  # before the outcome is told: whoever hears of it may start another
        try:
            error = done.exception()
        except CancelledError:  # the threads have ended
            error = ShuttingDown()
        if error is None:
            job.future.set_result(done.result())
        else:
            job.future.set_exception(error)

    def _leave(self, place: Place) -> None:
        with self._lock:
            for leaving in (place, place.client):
                self._running[leaving] -= 1
                if not self._running[leaving]:
                    del self._running[leaving]
            busy = {*self._running, *self._waiting, *(other.client for other in self._waiting)}
            self._last = {of: turn for of, turn in self._last.items() if of in busy}
