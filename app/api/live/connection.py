"""A WebSocket with a live session behind it. The contracts say what its messages mean."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Protocol

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from app.api.live.meter import Meter
from app.api.statuses import status_of
from app.domain.errors import (
    Cancelled,
    ClientGone,
    DeadlineExceeded,
    ModelUnavailable,
    Overloaded,
    RateLimited,
    ServiceError,
    ShuttingDown,
)
from app.live.events import Ended, LiveEvent
from app.live.live import Live, Stream
from app.live.options import LiveOptions
from app.live.session import LiveSession

log = logging.getLogger(__name__)

PIECE_BYTES = 65_536  # that the session is given at a time
MAX_BACKLOG_S = 5.0  # of sound that nobody has looked at: more is left in the socket
BACKLOG_POLL_S = 0.02
MAX_UNSENT = 2_000  # events
CLOSE_TIMEOUT_S = 5.0
WATCH_S = 0.5
FINISH_S = 60.0  # for the transcripts that are under way when a stream ends
# Source: RFC 6455, section 7.4.1.
NORMAL, GOING_AWAY, POLICY, FAILED, RESTART, TOO_BUSY = 1000, 1001, 1008, 1011, 1012, 1013
HTTP_SERVER_ERROR = 500

Message = dict[str, Any]


class Contract(Protocol):
    """What one kind of client sends and expects."""

    async def start(self) -> None:
        """Greet the client."""

    async def text(self, text: str) -> None:
        """A text message."""

    async def data(self, data: bytes) -> None:
        """A binary message."""

    def messages(self, event: LiveEvent) -> Iterable[Message]:
        """What to send for an event."""

    def failure(self, error: ServiceError) -> Iterable[Message]:
        """What to send before the connection is closed for this reason."""


class LiveConnection:
    """Moves messages between a socket, a contract and a session."""

    def __init__(self, websocket: WebSocket, live: Live, stream: Stream) -> None:
        self.live = live
        self.stream = stream
        self.received_s = 0.0
        self._websocket = websocket
        self._loop = asyncio.get_running_loop()
        self._outbox: asyncio.Queue[LiveEvent | Message] = asyncio.Queue()
        self._session: LiveSession | None = None
        self._current: object = None  # the session whose end is that of the stream
        self._ended = asyncio.Event()
        self._last_heard = self._begun = time.monotonic()
        self._close_code = NORMAL
        self._numbers = itertools.count(1)  # of utterances
        self._meter = Meter(stream)

    # -- for contracts ---------------------------------------------------------------------------

    @property
    def session(self) -> LiveSession | None:
        return self._session

    def open(self, options: LiveOptions, start_s: float = 0.0) -> LiveSession:
        """Begin a session. One that is open finishes; its events still come."""
        before = self._session
        if before is not None:
            before.finish()
        self._current = mine = object()  # known before the session's thread may tell of its end
        self._session = session = self.stream.open(
            options, lambda event: self._tell(event, mine), start_s, self._numbers
        )
        return session

    def send(self, message: Message) -> None:
        """Send a message after those that were to be sent before."""
        self._outbox.put_nowait(message)

    def send_soon(self, message: Message) -> None:
        """As `send`, for the session's thread: after the events that it has told."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.send, message)

    async def hear(self, data: bytes) -> None:
        """Give sound to the session. Waits while the session is busy: the client's sending waits,
        too.
        """
        for at in range(0, len(data), PIECE_BYTES):  # decoded, it may be many times larger
            session = self._session
            if session is None or self._ended.is_set():
                return
            session.hear(data[at : at + PIECE_BYTES])
            while session.backlog_s > MAX_BACKLOG_S and not self._ended.is_set():
                self._last_heard = time.monotonic()  # it is us who keep the client waiting
                await asyncio.sleep(BACKLOG_POLL_S)

    async def charge(self, received_s: float) -> None:
        """Count the sound so far against the client's limit. Raises RateLimited."""
        self.received_s = received_s
        await self._meter.hear(received_s)

    def close(self, code: int = NORMAL) -> None:
        """Finish the session; the socket is closed once all is told."""
        self._close_code = code
        if self._session is None:
            self._put(Ended())
        else:
            self._session.finish()

    # -- the connection --------------------------------------------------------------------------

    async def serve(self, contract: Contract) -> None:
        """Until the client goes, the stream ends or the service does."""
        sending = asyncio.create_task(self._send_all(contract))
        watching = asyncio.create_task(self._watch())
        receiving = asyncio.create_task(self._receive_all(contract))
        try:
            await asyncio.wait({sending, receiving}, return_when=asyncio.FIRST_COMPLETED)
            if receiving.done() and not sending.done():
                await self._after_receiving(receiving, contract)
                await asyncio.wait({sending}, timeout=FINISH_S)
        finally:
            for task in (sending, watching, receiving):
                task.cancel()
            self._fail(ClientGone())
            for task in (sending, watching, receiving):
                with suppress(asyncio.CancelledError, Exception):
                    await task
            await self._meter.settle()

    async def _after_receiving(self, receiving: asyncio.Task[None], contract: Contract) -> None:
        error = receiving.exception()
        if isinstance(error, ServiceError):
            self._fail(error)
        elif error is not None:
            raise error
        else:
            self._fail(ClientGone())

    def _fail(self, error: ServiceError) -> None:
        if self._session is not None:
            self._session.abort(error)
            self.stream.call.work.cancel(error)  # it may still wait for its model
        else:
            self._put(Ended(error))

    def _note(self, error: ServiceError) -> None:
        record = self.stream.call.record
        record.error, record.status = type(error).__name__, status_of(error)

    async def _receive_all(self, contract: Contract) -> None:
        """Returns when the client has gone. Raises ServiceError."""
        await contract.start()
        while True:
            try:
                message = await self._websocket.receive()
            except (RuntimeError, WebSocketDisconnect):
                return
            if message["type"] == "websocket.disconnect":
                return
            self._last_heard = time.monotonic()
            if (text := message.get("text")) is not None:
                await contract.text(text)
            elif data := message.get("bytes"):
                await contract.data(data)

    async def _send_all(self, contract: Contract) -> None:
        """Sends until the session has ended."""
        while True:
            item = await self._outbox.get()
            if isinstance(item, dict):
                await self._send(item)
                continue
            for message in contract.messages(item):
                await self._send(message)
            if isinstance(item, Ended):
                await self._end(item, contract)
                return

    async def _end(self, ended: Ended, contract: Contract) -> None:
        self._ended.set()
        error = ended.error
        if error is not None and not isinstance(error, ClientGone):
            self._note(error)
            self._close_code = close_code(error)
            for message in contract.failure(error):
                await self._send(message)
        if self._websocket.application_state is WebSocketState.CONNECTED:
            with suppress(RuntimeError, TimeoutError):
                closing = self._websocket.close(self._close_code)
                await asyncio.wait_for(closing, CLOSE_TIMEOUT_S)

    async def _send(self, message: Message) -> None:
        if self._websocket.application_state is not WebSocketState.CONNECTED:
            return
        text = json.dumps(message, ensure_ascii=False, allow_nan=False)
        try:
            await self._websocket.send_text(text)  # the server ends connections that do not read
        except (RuntimeError, WebSocketDisconnect):
            self._fail(ClientGone())

    async def _watch(self) -> None:
        """Ends streams that are too long or silent, and all of them when the service ends."""
        settings = self.live.settings
        while True:
            await asyncio.sleep(WATCH_S)
            now = time.monotonic()
            work = self.stream.call.work
            try:
                work.check()  # cancelled by an operator
            except ServiceError as error:
                self._fail(error)
            if self._outbox.qsize() > MAX_UNSENT:
                self._fail(Overloaded("The client does not read what it is sent."))
            elif self.live.draining:
                self.close(RESTART)
            elif now - self._begun > settings.live_max_session_s:
                self.close(NORMAL)
            elif now - self._last_heard > settings.live_idle_timeout_s:
                self._fail(DeadlineExceeded("Nothing was sent for too long."))

    def _tell(self, event: LiveEvent, session: object) -> None:
        """In the session's thread."""
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._take, event, session)

    def _take(self, event: LiveEvent, session: object) -> None:
        if session is self._current or not isinstance(event, Ended):
            self._put(event)

    def _put(self, event: LiveEvent) -> None:
        self._outbox.put_nowait(event)


def close_code(error: ServiceError) -> int:
    match error:
        case ShuttingDown():
            return RESTART
        case Overloaded() | ModelUnavailable() | RateLimited():
            return TOO_BUSY
        case Cancelled():
            return GOING_AWAY
        case DeadlineExceeded():
            return POLICY
        case _:
            return POLICY if status_of(error) < HTTP_SERVER_ERROR else FAILED
