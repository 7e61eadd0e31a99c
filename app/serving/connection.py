"""Connections, with limits on what a client may do before there is a request."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from app.serving.streams import StreamConnection
from app.serving.wire import Wire, Wiring

log = logging.getLogger(__name__)

AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]

MAX_URL_BYTES = 32 << 10
MAX_HEAD_BYTES = 64 << 10
MAX_HEADERS = 200
TOO_LARGE = "The head of the request is too large."
TOO_MANY = "Too many connections are open; try again later."


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """`idle_timeout_s`: between two requests. `refused` is called with the status of each answer
    that is given without a request.
    """

    max_connections: int
    head_timeout_s: float
    idle_timeout_s: float
    refused: Callable[[int], None] = lambda status: None


class Connection(Wire):
    """uvicorn's connection with limits on the time and size of a request's headers.

    uvicorn itself waits for them without end, whatever their size, and collects all trailers that
    follow a body. "Head" is the request line with the headers.
    """

    def __init__(self, limits: ConnectionLimits, wiring: Wiring, **options: Any) -> None:
        super().__init__(wiring, **options)
        self._limits = limits
        self.timeout_keep_alive = limits.idle_timeout_s  # type: ignore[assignment]
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._head_begun = False
        self.idle_since: float | None = None  # None while a request is being answered

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.idle_since = self.loop.time()
        self._await_head()
        if len(self.connections) > self._limits.max_connections:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        super().connection_lost(exc)

    def parse(self, data: memoryview) -> None:
        self._head_bytes += len(data)
        super().parse(data)
        endless = self._head_bytes > MAX_HEAD_BYTES + MAX_URL_BYTES
        if endless or (self._head_begun and self._has_many_headers):
            self.refuse(431, TOO_LARGE)
        elif self.idle_since is not None and self._head_timer is None:
            self._await_head()  # uvicorn's own timer of the connection is stopped

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_begun = True
        self._head_bytes = 0
        self._stop_head_timer()
        self._await_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        # else it is a trailer, which is dropped, or one of so many that the request is refused
        if self._head_begun and not self._has_many_headers:
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0  # bytes without any body are a head, or have to be limited like one
        super().on_body(body)

    def on_headers_complete(self) -> None:
        self._stop_head_timer()
        self._head_begun = False
        self.idle_since = None
        if fault := self._fault_of_head():
            self.app = self._refusal(*fault)
        super().on_headers_complete()

    def handle_websocket_upgrade(self) -> None:
        self._stop_head_timer()
        self.idle_since = None
        super().handle_websocket_upgrade()
        stream = self.transport.get_protocol()
        if isinstance(stream, StreamConnection):
            if fault := stream.fault_of_handshake:
                self.refuse(*fault)
            elif stream.refused:
                self._note_refusal(400)

    def on_response_complete(self) -> None:
        self.idle_since = None if self.pipeline else self.loop.time()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        self.refuse(400, "The request is not valid HTTP.")

    def head_is_allowed(self) -> bool:
        return self._fault_of_head() is None

    def _fault_of_head(self) -> tuple[int, str] | None:
        """Status and text of the refusal, where the head breaks a limit."""
        header_bytes = sum(len(name) + len(value) for name, value in self.headers)
        if len(self.url) > MAX_URL_BYTES:
            return 414, "The address of the request is too long."
        if header_bytes > MAX_HEAD_BYTES or self._has_many_headers:
            return 431, TOO_LARGE
        return None

    @property
    def _has_many_headers(self) -> bool:
        return len(self.headers) > MAX_HEADERS

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self._limits.head_timeout_s, self._head_is_late)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self.idle_since is None:  # a pipelined request, while the first one is being answered
            self._await_head()
        elif self._head_begun:
            self.refuse(408, "The head of the request did not arrive in time.")
        else:
            self.transport.close()

    def _make_room(self) -> None:
        """Close the longest idle connection, or this one if all are busy."""
        idle = [
            other
            for other in self.connections
            if isinstance(other, Connection)
            and other.idle_since is not None
            and other is not self
            and not other.transport.is_closing()
        ]
        if idle:
            min(idle, key=lambda other: other.idle_since or 0.0).transport.close()
        else:
            self.refuse(503, TOO_MANY)

    def refuse(self, status: int, detail: str) -> None:
        """Answer without a request, and close the connection."""
        if self.transport.is_closing():
            return
        if not self._answering:
            body = json.dumps({"detail": detail}).encode()
            head = [f"HTTP/1.1 {status} Refused"]
            head += [f"{n.decode()}: {v.decode()}" for n, v in self._headers(status, body)]
            self.transport.write("\r\n".join([*head, "", ""]).encode() + body)
        self.transport.close()

    @property
    def _answering(self) -> bool:
        """Whether an answer may be half sent, so that another one would corrupt it."""
        cycle = self._running
        begun = cycle is not None and cycle.response_started and not cycle.response_complete
        return bool(begun or self.pipeline)

    def _refusal(self, status: int, detail: str) -> AsgiApp:
        """An app that answers a request whose head arrived completely but breaks a limit."""
        body = json.dumps({"detail": detail}).encode()
        headers = self._headers(status, body)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})

        return app

    def _headers(self, status: int, body: bytes) -> list[tuple[bytes, bytes]]:
        """The headers of a refusal, which is counted and logged as well."""
        request_id = self._note_refusal(status)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"x-request-id", request_id.encode()),
            (b"connection", b"close"),
        ]
        return [*headers, (b"retry-after", b"5")] if status == 503 else headers

    def _note_refusal(self, status: int) -> str:
        """Count and log it: no middleware sees it. Returns its ID."""
        request_id = secrets.token_hex(8)
        self._limits.refused(status)
        host = self.client[0] if self.client else ""
        log.info(
            "connection refused",
            extra={"request_id": request_id, "status": status, "address": host},
        )
        return request_id
