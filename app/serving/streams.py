"""WebSockets that outlive SIGTERM for a moment, but not a client that has gone or does not read.

They are read in small slices, as requests are: no client occupies the event loop.
"""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import suppress
from typing import Any

from websockets.exceptions import RequestLineTooLong, SecurityError
from websockets.frames import CloseCode

from app.service.pace import Pace
from app.serving.uvicorn_internals import WebSocketsSansIOProtocol

READ_TIMEOUT_S = 20.0  # for a client to read what it was sent
LINGER_S = 5.0  # for a client that broke the protocol to read why it is cut off
BUFFER_BYTES = 256 << 10  # that the kernel keeps for us: some seconds of sound
SLICE_BYTES = 2 << 10
DEAR_S = 1e-3  # a slice that costs more is full of tiny frames
MANY_DEAR = 50  # such slices without a message between them: more than 10 000 frames
UNREAD = "The client does not read what it is sent."
MAX_MESSAGE_BYTES = 4 << 20  # a minute of sound in most formats; larger ones close with 1009


class StreamConnection(WebSocketsSansIOProtocol):
    """uvicorn's connection. uvicorn itself

    - closes it as soon as the server stops, waits without end for a client to read, and takes one
      for dead whose pong waits behind sound,
    - handles at once all that has arrived, and answers pings that nobody reads the answers of,
    - fails on frames that arrive before the handshake is answered.
    """

    def __init__(self, pace: Pace, **options: Any) -> None:
        super().__init__(**options)
        self._pace = pace
        self._heard_at = 0.0
        self._unread = memoryview(b"")
        self._turn: asyncio.TimerHandle | None = None  # until then, nothing is read
        self._turn_cost_s = 0.0
        self._num_dear = 0
        self._deaf = False
        self._unread_timer: asyncio.TimerHandle | None = None  # while writing is paused

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # The kernel keeps megabytes by itself, and we see the client's end only behind them.
        with suppress(OSError):
            transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES
            )

    # -- the handshake -----------------------------------------------------------------------------

    @property
    def fault_of_handshake(self) -> tuple[int, str] | None:
        """Status and text of a refusal that was not sent: the head breaks the library's limits."""
        if self.handshake_initiated:
            return None
        match self.conn.handshake_exc:
            case RequestLineTooLong():
                return 414, "The address of a WebSocket may have 8192 bytes."
            case SecurityError():
                return 431, "A WebSocket's handshake may have 128 headers of 8192 bytes each."
            case _:
                return 400, "The handshake of the WebSocket is not valid."

    @property
    def refused(self) -> bool:
        """Whether a refusal was sent: a header is not valid."""
        return self.handshake_initiated and self.conn.handshake_exc is not None

    # -- reading -----------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        if not self.handshake_initiated:  # the head, which comes as a whole
            super().data_received(data)
            self._deaf = not self.handshake_initiated
            return
        self._heard_at = self.loop.time()
        self._unread = memoryview(bytes(self._unread) + data if self._unread else data)
        self._read_on()

    def _read_on(self) -> None:
        """Take what has arrived, as far as it may be taken now."""
        while self._unread and self._may_read:
            piece, self._unread = self._unread[:SLICE_BYTES], self._unread[SLICE_BYTES:]
            begun = time.thread_time()
            super().data_received(piece)  # type: ignore[arg-type]  # any bytes will do
            cost_s = time.thread_time() - begun
            if cost_s > DEAR_S:
                self._slow_down(cost_s)
        self._apply_flow()

    @property
    def _may_read(self) -> bool:
        waits = self._turn is not None or self._unread_timer is not None or self.read_paused
        return self.handshake_complete and not waits and not self._deaf

    def _apply_flow(self) -> None:
        if self.disconnected or self.transport.is_closing():
            self._unread = memoryview(b"")
        elif self._deaf or not (self._unread or self.read_paused):
            self._unread = memoryview(b"")
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    def _slow_down(self, cost_s: float) -> None:
        self._num_dear += 1
        if self._num_dear > MANY_DEAR:
            self._fail(CloseCode.POLICY_VIOLATION, "too many frames without a message")
            return
        self._turn_cost_s = cost_s
        turn_at = self._pace.reserve(self.loop.time(), cost_s)
        self._turn = self.loop.call_at(turn_at, self._go_on)

    def _go_on(self) -> None:
        self._turn = None
        self._read_on()

    async def receive(self) -> Any:
        message = await super().receive()
        self._read_on()
        return message

    async def send(self, message: Any) -> None:
        await super().send(message)
        self._read_on()  # the handshake is complete now, or the application has closed

    # -- what clients may not send -----------------------------------------------------------------

    def send_receive_event_to_app(self) -> None:
        if self.curr_msg_data_type == "text" and not _is_text(b"".join(self.frames)):
            self._fail(CloseCode.INVALID_DATA, "not UTF-8")
            return
        self._num_dear = 0
        super().send_receive_event_to_app()

    def _fail(self, code: CloseCode, reason: str) -> None:
        self.conn.fail(code, reason)
        self.handle_parser_exception()

    def handle_parser_exception(self) -> None:
        """Tell why, and drop what still comes: a client that sends would see a reset instead."""
        if self._deaf:
            return
        self._deaf = True
        told = self.conn.close_sent
        code = CloseCode.ABNORMAL_CLOSURE if told is None else told.code
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self._stop_close_timer()
        self.close_timer = self.loop.call_later(LINGER_S, self.transport.abort)
        self.loop.call_soon(self._end_sending)

    def _end_sending(self) -> None:
        if not self.transport.is_closing() and self.transport.can_write_eof():
            self.transport.write_eof()

    # -- the end -----------------------------------------------------------------------------------

    def shutdown(self) -> None:
        """The application sees that the service ends: it finishes what was said, and closes."""
        if self.close_sent or not self.handshake_complete:
            super().shutdown()

    def keepalive_timeout(self) -> None:
        if self.read_paused or self._unread or self._heard_at > self.ping_sent_at:
            self.pong_timer = self.pending_ping_payload = None  # its pong shall start no other ping
            self.schedule_ping()
            return
        super().keepalive_timeout()
        self.transport.abort()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread_timer = self.loop.call_later(READ_TIMEOUT_S, self._close_unread)

    def _close_unread(self) -> None:
        """The client may read why, should it look again soon."""
        self._fail(CloseCode.POLICY_VIOLATION, UNREAD)
        self._apply_flow()
        self.disconnected = True
        self.writable.set()  # the application waits for it

    def resume_writing(self) -> None:
        self._stop_unread_timer()
        super().resume_writing()
        self._read_on()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_unread_timer()
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
            self._pace.give_back(self.loop.time(), self._turn_cost_s)
        super().connection_lost(exc)
        self._unread = memoryview(b"")

    def _stop_unread_timer(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def _stop_close_timer(self) -> None:
        if self.close_timer is not None:
            self.close_timer.cancel()


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
