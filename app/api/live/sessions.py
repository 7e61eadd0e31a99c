"""The sessions of one stream: a change of the model begins another one, while the last finishes."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from app.domain.errors import ServiceError
from app.live.events import Ended, LiveEvent
from app.live.live import Stream
from app.live.options import LiveOptions
from app.live.session import LiveSession

MOST_OPEN = 2


@dataclass(eq=False, slots=True)
class _Open:
    """`held`: what it told while the session before it was not finished."""

    held: list[LiveEvent] = field(default_factory=list)


class Sessions:
    """At most two are open: the current one, and the one before. The client is told all of one
    before anything of the next, and `Ended` once: after the last, or when one fails. For the event
    loop.
    """

    def __init__(self, stream: Stream, tell: Callable[[LiveEvent], None]) -> None:
        self.current: LiveSession | None = None
        self._stream = stream
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._open: deque[_Open] = deque()
        self._running: dict[_Open, LiveSession] = {}
        self._one_ended = asyncio.Event()
        self._numbers = itertools.count(1)  # of utterances
        self._opening = False
        self._finishing = False
        self._over = False

    @property
    def busy(self) -> bool:
        """Whether it is us who keep the client waiting: for a model, or for transcripts."""
        return any(session.busy for session in self._running.values())

    @property
    def finishing(self) -> bool:
        """Whether the stream is to end: no more sound is heard."""
        return self._finishing

    async def open(self, options: LiveOptions, start_s: float = 0.0) -> None:
        """Begin a session; the current one finishes. Waits while there are two. Has no effect once
        the stream is to end.
        """
        rest = b""
        if self.current is not None:
            rest = self.current.rest(options)
            self.current.finish()
        self._opening = True
        while len(self._open) >= MOST_OPEN and not self._finishing:
            self._one_ended.clear()
            await self._one_ended.wait()
        self._opening = False
        if self._finishing:
            return
        mine = _Open()
        session = self._stream.open(options, partial(self._post, mine), start_s, self._numbers)
        self._open.append(mine)  # what it has told meanwhile waits for this thread
        self.current = self._running[mine] = session
        if rest:
            session.hear(rest)

    def finish(self) -> None:
        """Tell what is left, then `Ended`."""
        if self._finishing:
            return
        self._finishing = True
        self._one_ended.set()
        if self.current is not None and self._open:
            self.current.finish()
        else:
            self._end(None)

    def abort(self, error: ServiceError) -> None:
        """End all of them at once."""
        self._finishing = True
        self._one_ended.set()
        if not self._open:
            self._end(error)
        for session in self._running.values():
            session.abort(error)
        if self._open:
            self._stream.call.work.cancel(error)  # one may still wait for its model

    def _post(self, mine: _Open, event: LiveEvent) -> None:
        """In the session's thread."""
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._take, mine, event)

    def _take(self, mine: _Open, event: LiveEvent) -> None:
        if isinstance(event, Ended):
            self._running.pop(mine, None)
        if mine not in self._open:
            return
        if mine is not self._open[0]:
            mine.held.append(event)
        elif isinstance(event, Ended):
            self._next(event)
        else:
            self._put(event)

    def _next(self, ended: Ended) -> None:
        """The first session has ended."""
        self._open.popleft()
        self._one_ended.set()
        if ended.error is not None:
            self._end(ended.error)
            self.abort(ended.error)
        elif self._open:
            first = self._open[0]
            held, first.held = first.held, []
            for event in held:
                self._take(first, event)
        elif self._finishing or not self._opening:
            self._end(None)

    def _end(self, error: ServiceError | None) -> None:
        self._put(Ended(error))
        self._over = True

    def _put(self, event: LiveEvent) -> None:
        if not self._over:
            self._tell(event)
