"""A WebSocket with a live session behind it. The contracts say what its messages mean."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from typing import Any, Protocol

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from app.api.live.closes import FAILED, NORMAL, RESTART, close_code, short_reason
from app.api.live.meter import Meter
from app.api.live.sessions import Sessions
from app.api.statuses import status_of
from app.domain.errors import (
    ClientGone,
    DeadlineExceeded,
    RateLimited,
    ServiceError,
    StageFailed,
)
from app.live.events import Ended, LiveEvent
from app.live.live import Live, Stream
from app.live.options import LiveOptions
from app.live.session import LiveSession

log = logging.getLogger(__name__)

PIECE_BYTES = 65_536  # that the session is given at a time
MAX_BACKLOG_S = 5.0  # of sound that nobody has looked at: more is left in the socket
BACKLOG_POLL_S = 0.02
MAX_WAITING = 500  # pieces of sound and commands that the session has not looked at yet
MAX_UNSENT = 100  # answers; then nothing more is read
MOST_UNSENT = 2_000  # with what the session tells by itself; then the stream ends
CLOSE_TIMEOUT_S = 5.0
WATCH_S = 0.5
FINISH_S = 60.0  # for the transcripts that are under way when a stream ends
UNEXPECTED = "a live stream failed unexpectedly"
FAILURE = "The service failed on this stream."

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
        self._sessions = Sessions(stream, self._outbox.put_nowait)
        self._ended = asyncio.Event()
        self._last_heard = self._begun = time.monotonic()
        self._close_code = NORMAL
        self._reason: ServiceError | None = None  # to be told, once the session has finished
        self._meter = Meter(stream)

    # -- for contracts ---------------------------------------------------------------------------

    @property
    def session(self) -> LiveSession | None:
        return self._sessions.current

    @property
    def finishing(self) -> bool:
        """Whether the stream is to end: sound that comes now is not heard, nor charged."""
        return self._sessions.finishing

    async def open(self, options: LiveOptions, start_s: float = 0.0) -> None:
        """Begin a session. One that is open finishes; its events still come, before the others."""
        await self._sessions.open(options, start_s)

    def send(self, message: Message) -> None:
        """Send a message after those that were to be sent before."""
        self._outbox.put_nowait(message)

    def send_soon(self, message: Message) -> None:
        """As `send`, for the session's thread: after the events that it has told."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.send, message)

    def call_later(self, delay_s: float, function: Callable[[], None]) -> asyncio.TimerHandle:
        """Call something after a while, unless the stream has ended."""
        return self._loop.call_later(delay_s, self._call, function)

    def _call(self, function: Callable[[], None]) -> None:
        if self._ended.is_set():
            return
        try:
            function()
        # A bug of ours: the client must be told.
        except Exception:
            log.exception(UNEXPECTED)
            self._fail(StageFailed(FAILURE))

    async def hear(self, data: bytes) -> None:
        """Give sound to the session. Waits while the session is busy: the client's sending waits,
        too.
        """
        for at in range(0, len(data), PIECE_BYTES):  # decoded, it may be many times larger
            session = self.session
            if session is None or self.finishing or self._ended.is_set():
                return
            session.hear(data[at : at + PIECE_BYTES])
            while session.backlog_s > MAX_BACKLOG_S and not self._ended.is_set():
                await self._keep_waiting()

    async def _keep_waiting(self) -> None:
        self._last_heard = time.monotonic()  # it is us who keep the client waiting
        await asyncio.sleep(BACKLOG_POLL_S)

    async def charge(self, received_s: float) -> None:
        """Count the sound so far against the client's limit. Raises RateLimited."""
        self.received_s = received_s
        await self._meter.hear(received_s)

    def close(self, code: int = NORMAL) -> None:
        """Finish the session; the socket is closed once all is told."""
        if not self.finishing:
            self._close_code = code
        self._sessions.finish()

    def _close_for(self, reason: ServiceError) -> None:
        """As `close`, for a reason that the client is told after what it has said."""
        self._reason = self._reason or reason
        self._sessions.finish()

    # -- the connection --------------------------------------------------------------------------

    async def serve(self, contract: Contract) -> None:
        """Until the client goes, the stream ends or the service does."""
        parts = self._send_all(contract), self._receive_all(contract), self._watch()
        tasks = [asyncio.create_task(self._guarded(part)) for part in parts]
        sending, receiving, _ = tasks
        try:
            await asyncio.wait({sending, receiving}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({sending}, timeout=FINISH_S)
        finally:
            for task in tasks:
                task.cancel()
            self._sessions.abort(ClientGone())
            await asyncio.gather(*tasks, return_exceptions=True)
            self._ended.set()
            await self._close(RESTART if self.live.draining else FAILED)  # if it is still open
            await self._meter.settle()

    async def _guarded(self, part: Coroutine[None, None, None]) -> None:
        try:
            await part
        except ServiceError as error:
            self._sessions.abort(error)
        # A bug of ours: the client must be told.
        except Exception:
            log.exception(UNEXPECTED)
            self._fail(StageFailed(FAILURE))

    def _fail(self, error: ServiceError) -> None:
        """For the record, too: the client may not be told any more."""
        self._note(error)
        self._sessions.abort(error)

    def _note(self, error: ServiceError) -> None:
        record = self.stream.call.record
        record.error, record.status = type(error).__name__, status_of(error)

    async def _receive_all(self, contract: Contract) -> None:
        """Until the client has gone. Raises ServiceError."""
        await contract.start()
        while (message := await self._receive()) is not None:
            self._last_heard = time.monotonic()
            try:
                await _pass_on(message, contract)
            except RateLimited as error:  # what was said before is charged
                self._close_for(error)
            await asyncio.sleep(0)  # a thousand tiny messages may be there: others come first
            while self._is_flooded and not self._ended.is_set():
                await self._keep_waiting()
        self._sessions.abort(ClientGone())

    async def _receive(self) -> Mapping[str, Any] | None:
        """The next message; None if the client has gone."""
        try:
            message = await self._websocket.receive()
        except (RuntimeError, WebSocketDisconnect):
            return None
        return None if message["type"] == "websocket.disconnect" else message

    @property
    def _is_flooded(self) -> bool:
        """Whether more has been asked than is answered and done."""
        waiting = 0 if self.session is None else self.session.num_waiting
        return waiting > MAX_WAITING or self._outbox.qsize() > MAX_UNSENT

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
        error = ended.error or self._reason
        if error is None or isinstance(error, ClientGone):
            await self._close(self._close_code)
            return
        self._note(error)
        for message in contract.failure(error):
            await self._send(message)
        await self._close(close_code(error), error.message)

    async def _close(self, code: int, reason: str = "") -> None:
        if self._websocket.application_state is WebSocketState.CONNECTED:
            with suppress(RuntimeError, TimeoutError, WebSocketDisconnect):
                closing = self._websocket.close(code, short_reason(reason))
                await asyncio.wait_for(closing, CLOSE_TIMEOUT_S)

    async def _send(self, message: Message) -> None:
        if self._websocket.application_state is not WebSocketState.CONNECTED:
            return
        try:
            # the server ends connections that do not read
            await self._websocket.send_text(as_json(message))
        except (RuntimeError, WebSocketDisconnect):
            self._sessions.abort(ClientGone())

    async def _watch(self) -> None:
        """Ends streams that are too long or silent, and all of them when the service ends."""
        settings = self.live.settings
        while True:
            await asyncio.sleep(WATCH_S)
            now = time.monotonic()
            if self._sessions.busy:
                self._last_heard = now
            self.stream.call.work.check()  # cancelled by an operator
            if self._outbox.qsize() > MOST_UNSENT:
                self._sessions.abort(DeadlineExceeded("The client does not read what it is sent."))
            elif self.live.draining:
                self.close(RESTART)
            elif now - self._begun > settings.live_max_session_s:
                self.close(NORMAL)
            elif now - self._last_heard > settings.live_idle_timeout_s:
                self._close_for(DeadlineExceeded("Nothing was sent for too long."))


async def _pass_on(message: Mapping[str, Any], contract: Contract) -> None:
    if (text := message.get("text")) is not None:
        await contract.text(text)
    elif data := message.get("bytes"):
        await contract.data(data)


def as_json(message: Message) -> str:
    """Halves of surrogate pairs, which clients may have written, stay escaped."""
    text = json.dumps(message, ensure_ascii=False, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(message, allow_nan=False)
    return text
