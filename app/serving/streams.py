"""WebSockets that outlive SIGTERM for a moment, but not a client that has gone or does not read."""

from __future__ import annotations

import asyncio
from typing import Any

from websockets.frames import CloseCode

from app.serving.uvicorn_internals import WebSocketsSansIOProtocol

READ_TIMEOUT_S = 20.0  # for a client to read what it was sent
UNREAD_LINGER_S = 5.0
UNREAD = "The client does not read what it is sent."
MAX_MESSAGE_BYTES = 4 << 20  # a minute of sound in most formats; larger ones close with 1009


class StreamConnection(WebSocketsSansIOProtocol):
    """uvicorn's connection. uvicorn itself closes it as soon as the server stops, waits without end
    for a client to read, and takes one for dead whose pong waits behind sound.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._heard_at = 0.0
        self._unread_timer: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        self._heard_at = self.loop.time()
        super().data_received(data)

    def shutdown(self) -> None:
        """The application sees that the service ends: it finishes what was said, and closes."""
        if self.close_sent or not self.handshake_complete:
            super().shutdown()

    def keepalive_timeout(self) -> None:
        if self.read_paused or self._heard_at > self.ping_sent_at:
            self.schedule_ping()
            return
        super().keepalive_timeout()
        self.transport.abort()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread_timer = self.loop.call_later(READ_TIMEOUT_S, self._close_unread)

    def _close_unread(self) -> None:
        """The client may read why, should it look again soon."""
        self.conn.fail(CloseCode.POLICY_VIOLATION, UNREAD)
        if self.conn.close_sent is None:
            self.transport.abort()
            return
        self.handle_parser_exception()
        self.disconnected = True
        self.writable.set()  # the application waits for it
        self.loop.call_later(UNREAD_LINGER_S, self.transport.abort)

    def resume_writing(self) -> None:
        self._stop_unread_timer()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_unread_timer()
        super().connection_lost(exc)

    def _stop_unread_timer(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None
