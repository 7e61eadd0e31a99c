"""Receivers: how many webhooks one host gets at a time, so that one that hangs holds up no other.

A process knows only its own tries. Hosts that it has not heard of work.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

AT_ONCE = 2
FAILURES = 3  # in a row; from then on one at a time, until one succeeds
PATIENCE_S = 1.0  # to wait for a receiver that works
LONGEST_S = 600.0  # that a try is put off
MAX_HOSTS = 1000


@dataclass(slots=True)
class _Host:
    """`took_s`: the last try. `planned`: until when tries are planned, by the clock."""

    num_running: int = 0
    num_failed: int = 0
    took_s: float = 0.0
    planned: float = 0.0

    @property
    def fails(self) -> bool:
        return self.num_failed >= FAILURES

    @property
    def room(self) -> int:
        return 1 if self.fails else AT_ONCE

    @property
    def is_free(self) -> bool:
        return self.num_running < self.room


class Receivers:
    """Any thread. `clock`: monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._hosts: OrderedDict[str, _Host] = OrderedDict()

    def begin(self, url: str) -> float:
        """0: a try may begin now; call `end` after it. Else it is to be put off for so many
        seconds. Waits a moment for a receiver that works.
        """
        with self._changed:
            host = self._host(url)
            self._changed.wait_for(lambda: host.is_free or host.fails, PATIENCE_S)
            if not host.is_free:
                return self._plan(host)
            host.num_running += 1
            return 0.0

    def end(self, url: str, took_s: float, failed: bool) -> None:
        """`failed`: another try may succeed."""
        with self._changed:
            host = self._host(url)
            host.num_running = max(0, host.num_running - 1)
            host.num_failed = host.num_failed + 1 if failed else 0
            host.took_s = took_s
            if not failed:
                host.planned = 0.0
            self._changed.notify_all()

    def _plan(self, host: _Host) -> float:
        """One after the other: each time that all come at once costs much and helps nobody."""
        now = self._clock()
        host.planned = max(host.planned, now) + max(host.took_s, PATIENCE_S) / host.room
        return min(host.planned - now, LONGEST_S)

    def _host(self, url: str) -> _Host:
        name = urlsplit(url).netloc.rpartition("@")[2].lower()
        host = self._hosts.setdefault(name, _Host())
        self._hosts.move_to_end(name)
        if len(self._hosts) > MAX_HOSTS:
            self._forget()
        return host

    def _forget(self) -> None:
        """The host that was not needed for longest."""
        for name, host in self._hosts.items():
            if not host.num_running:
                del self._hosts[name]
                return
