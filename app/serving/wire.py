"""The bytes of a connection: read in small slices, so that no client occupies the event loop."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote_to_bytes

from app.service.pace import Pace
from app.serving.flow import HeldFlow
from app.serving.upgrades import Headers, asks_for_websocket, head_without_upgrade
from app.serving.uvicorn_internals import (
    HttpParserError,
    HttpParserUpgrade,
    HttpRequestParser,
    HttpToolsProtocol,
)

INVALID = "Invalid HTTP request received."
SLICE_BYTES = 8 << 10
# A slice with more pieces of a body than this has chunks of less than 256 bytes on average.
MANY_PIECES = 32
MAX_PIPELINED = 16  # requests that wait for the answer to an earlier one
PIECE_S = 0.3e-6  # what each of them costs, about
SLICE_S = 0.3e-3  # what a slice costs that is read by itself, with all that happens to it later
SMALL_BYTES = 512
MANY_SMALL = 16  # reads of a body that are so small
PIPELINED_S = 4e-3  # a request that was sent before the answer to the last one, as no client does


@dataclass(frozen=True, slots=True)
class Wiring:
    """What all connections of a server share. `has_websocket`: whether a path serves one.
    `pipelining`: a pace of its own, so that these requests make no slow sender wait.
    """

    pace: Pace
    has_websocket: Callable[[str], bool] = lambda path: False
    pipelining: Pace = field(default_factory=Pace)


class TooManyPipelined(Exception):
    """Ends the parser: it can only be stopped for good."""


class Wire(HttpToolsProtocol):
    """uvicorn's connection, made safe against what its parser is fed with.

    - uvicorn handles all that has arrived at once. Here, a body in tiny chunks or packets waits for
      its turn, as do pipelined requests; those beyond a few are not read.
    - httptools leaves a request that asks for an upgrade at the end of its head, and would take its
      body for the next request. Here, it is parsed again without the upgrade, unless it opens a
      WebSocket that there is.
    """

    def __init__(self, wiring: Wiring, **options: Any) -> None:
        super().__init__(**options)
        self._wiring = wiring
        self._unread = memoryview(b"")
        self._pieces: list[bytes] = []  # of a body; filled by the parser without a call into Python
        self._num_small = 0
        self._turn: asyncio.TimerHandle | None = None  # until then, nothing is read
        self._turn_cost_s = 0.0  # what was reserved for it
        self._running: Any = None  # the cycle whose answer is due; `cycle` is the latest one
        self._late: Any = None  # the pipelined cycle that begins next
        self._deaf = False
        self._switching = False  # the parser is inside a head that asks for an upgrade
        self._as_sent: Headers | None = None  # the headers of a head that is parsed again
        self._flow: HeldFlow
        self.parser = self._new_parser()

    @abstractmethod
    def head_is_allowed(self) -> bool:
        """Whether the head that has just been parsed is within the limits."""

    @abstractmethod
    def refuse(self, status: int, detail: str) -> None:
        """Answer without a request, and close the connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = self._flow = HeldFlow(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._turn is not None:
            self._turn.cancel()
            self._wiring.pace.give_back(self.loop.time(), self._turn_cost_s)
        self._unread = memoryview(b"")
        self.pipeline.clear()
        if self._is_answering:
            self._running.disconnected = True  # uvicorn tells the latest request only
            self._running.message_event.set()
        super().connection_lost(exc)

    @property
    def _is_answering(self) -> bool:
        return self._running is not None and not self._running.response_complete

    # -- reading -----------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._unread = memoryview(bytes(self._unread) + data if self._unread else data)
        self._num_small += len(data) < SMALL_BYTES
        if self._num_small > MANY_SMALL:
            self._num_small = 0
            self._wait_for_turn(MANY_SMALL * SLICE_S)
        self.read_on()

    def read_on(self) -> None:
        """Parse what has arrived, as far as it may be parsed now."""
        while self._unread and self._turn is None and not self.pipeline:
            if self.transport.is_closing():
                self._unread = memoryview(b"")
                return
            self._unset_keepalive_if_required()
            data, self._unread = self._unread[:SLICE_BYTES], self._unread[SLICE_BYTES:]
            self.parse(data)
        self._flow.hold(self._deaf or bool(self._unread) or self._turn is not None)

    def parse(self, data: memoryview) -> None:
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            self._unread = memoryview(bytes(data[upgrade.args[0] :]) + bytes(self._unread))
            self._upgrade()
        except HttpParserError as error:
            if isinstance(error.__context__, TooManyPipelined):
                self._close_after_pipeline()
            else:
                self.logger.warning(INVALID)
                self.send_400_response(INVALID)
        if len(self._pieces) > MANY_PIECES:
            self._wait_for_turn(SLICE_S + len(self._pieces) * PIECE_S)
        self._deliver()

    def _close_after_pipeline(self) -> None:
        """What has not been parsed gets no answer; the client may send it again elsewhere."""
        self._unread = memoryview(b"")
        self._deaf = True
        self.cycle.keep_alive = False

    def _wait_for_turn(self, cost_s: float) -> None:
        if self._turn is None:
            self._turn_cost_s = cost_s
            turn_at = self._wiring.pace.reserve(self.loop.time(), cost_s)
            self._turn = self.loop.call_at(turn_at, self._go_on)

    def _go_on(self) -> None:
        self._turn = None
        if self.parser is not None:  # else the connection is lost
            self.read_on()

    def _deliver(self) -> None:
        if self._pieces:
            body = b"".join(self._pieces)
            self._pieces.clear()
            self.on_body(body)

    # -- the parser's callbacks --------------------------------------------------------------------

    def _new_parser(self) -> HttpRequestParser:
        callbacks = SimpleNamespace(
            on_message_begin=self._message_begins,
            on_url=self.on_url,
            on_header=self.on_header,
            on_headers_complete=self._head_ended,
            on_body=self._pieces.append,
            on_message_complete=self._message_ended,
        )
        parser = HttpRequestParser(callbacks)
        # What follows a request with `Connection: close` is dropped, and the request answered.
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser

    def _message_begins(self) -> None:
        if len(self.pipeline) == MAX_PIPELINED:
            raise TooManyPipelined
        self.on_message_begin()

    def _head_ended(self) -> None:
        self._num_small = 0
        self._switching = self.parser.should_upgrade()
        if self._as_sent is not None:
            self.headers[:] = self._as_sent  # the list is in the scope already
            self._as_sent = None
        if not self._switching:
            self.on_headers_complete()

    def _message_ended(self) -> None:
        if not self._switching:
            self._deliver()
            self.on_message_complete()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._running = cycle
        if cycle is self._late:
            turn_at = self._wiring.pipelining.reserve(self.loop.time(), PIPELINED_S)
            self.loop.call_at(turn_at, self._start_late, cycle, app)
        else:
            super()._start_asgi_task(cycle, app)

    def _start_late(self, cycle: Any, app: Any) -> None:
        if not cycle.disconnected:
            super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        self._late = self.pipeline[-1][0] if self.pipeline else None
        super().on_response_complete()
        if self._unread and self._turn is None:
            self._turn_cost_s = 0.0
            self._turn = self.loop.call_later(0, self._go_on)

    # -- upgrades ----------------------------------------------------------------------------------

    def _upgrade(self) -> None:
        """Open the WebSocket that is asked for, or parse the request's head without the upgrade."""
        method, version = self.parser.get_method(), self.parser.get_http_version()
        if method == b"CONNECT":
            self.refuse(405, "CONNECT: this service is no proxy.")
        elif self._may_switch(method, version):
            self._open_websocket()
        else:
            head = head_without_upgrade(method, self.url, version, self.headers)
            self._as_sent = list(self.headers)
            self.parser = self._new_parser()
            self.parse(memoryview(head))

    def _may_switch(self, method: bytes, version: str) -> bool:
        path = unquote_to_bytes(self.url.partition(b"?")[0]).decode("utf-8", "replace")
        return (
            asks_for_websocket(method, version, self.headers)
            and self.head_is_allowed()
            and not self._is_answering
            and self._wiring.has_websocket(self.root_path + path)
        )

    def _open_websocket(self) -> None:
        """From here on, uvicorn's protocol for WebSockets has the connection, and counts as one."""
        self.scope["method"] = "GET"
        early, self._unread = bytes(self._unread), memoryview(b"")
        self.handle_websocket_upgrade()
        if early:
            self.transport.get_protocol().data_received(early)  # type: ignore[attr-defined]
