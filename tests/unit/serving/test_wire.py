"""What a connection makes of hostile bytes: with a small app, in the server that we start."""

from __future__ import annotations

import asyncio
import functools
import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import product
from typing import Any

import pytest
import uvicorn
import websockets.sync.client as websockets
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from app.service.pace import Pace
from app.serving.connection import Connection, ConnectionLimits
from app.serving.routes import serves_websocket
from app.serving.wire import MAX_PIPELINED, Wiring
from tests.support.waiting import eventually

TIMEOUT_S = 60
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


class Echo:
    """An app that answers with what it got, and its server."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.refused: list[int] = []
        self.num_messages = 0
        self.go_on = threading.Event()
        routes = [
            Route("/slow", self.slow),
            Route("/{rest:path}", self.answer, methods=["GET", "POST", "PUT"]),
            WebSocketRoute("/live", self.live),
        ]
        self.app = Starlette(routes=routes)
        limits = ConnectionLimits(20, 30, 30, self.refused.append)
        wiring = Wiring(Pace(), functools.partial(serves_websocket, self.app))
        config = uvicorn.Config(
            self.app,
            http=functools.partial(Connection, limits, wiring),  # type: ignore[arg-type]
            ws="websockets-sansio",
            log_config=None,
            lifespan="off",
            timeout_graceful_shutdown=10,
        )
        self.server = uvicorn.Server(config)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]

    async def answer(self, request: Request) -> JSONResponse:
        self.seen.append(request.url.path)
        body = b""
        async for piece in request.stream():
            self.num_messages += 1
            body += piece
        upgrade = request.headers.get("upgrade")
        return JSONResponse({"path": request.url.path, "body": body.decode(), "upgrade": upgrade})

    async def slow(self, request: Request) -> JSONResponse:
        self.seen.append("/slow")
        while not self.go_on.is_set() and not await request.is_disconnected():
            await asyncio.to_thread(self.go_on.wait, 0.01)
        self.seen.append("/slow ended")
        return JSONResponse({"path": "/slow"})

    async def live(self, socket: WebSocket) -> None:
        await socket.accept()
        async for text in socket.iter_text():
            await socket.send_text(text.upper())

    @contextmanager
    def running(self) -> Iterator[Echo]:
        thread = threading.Thread(target=self.server.run, args=([self.socket],))
        thread.start()
        try:
            yield self
        finally:
            self.go_on.set()
            self.server.should_exit = True
            thread.join(TIMEOUT_S)
            assert not thread.is_alive()

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def num_connections(self) -> int:
        return len(self.server.server_state.connections)


@pytest.fixture(scope="module")
def shared() -> Iterator[Echo]:
    with Echo().running() as running:
        yield running


@pytest.fixture
def echo(shared: Echo) -> Iterator[Echo]:
    """The next request is served after each test, and no connection is left."""
    shared.seen.clear()
    shared.refused.clear()
    shared.go_on.clear()
    yield shared
    shared.go_on.set()
    assert [status for status, _ in talk(shared, [get("/next", close=True)])] == [200]
    eventually(lambda: shared.num_connections() == 0)


def get(path: str, *more: str, close: bool = False) -> bytes:
    lines = [f"GET {path} HTTP/1.1", "Host: x", *more, *(["Connection: close"] if close else [])]
    return "\r\n".join([*lines, "", ""]).encode()


def talk(echo: Echo, packets: list[bytes]) -> list[tuple[int, Any]]:
    """Statuses and bodies of all answers until the connection is closed."""
    with closing(echo.connect()) as connection:
        for packet in packets:
            connection.sendall(packet)
        received = b""
        while data := connection.recv(65536):
            received += data
    return answers(received)


def answers(received: bytes) -> list[tuple[int, Any]]:
    found = []
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        length = int(re.search(rb"(?i)content-length: *(\d+)", head)[1])  # type: ignore[index]
        found.append((int(head.split()[1]), json.loads(rest[:length])))
        received = rest[length:]
    return found


# -- upgrades --------------------------------------------------------------------------------------

UPGRADES = [
    ("h2c", "Upgrade, HTTP2-Settings"), ("websocket", "Upgrade"), (None, "upgrade"),
    ("WebSocket", "keep-alive, UPGRADE"), ("TLS/1.0", "upgrade"), ("h2c, websocket", "upgrade"),
    ("", "upgrade"), ("x" * 3000, "upgrade"), ("h2c", "keep-alive"),
]  # fmt: skip
FRAMINGS = ["length", "chunks", "none"]


def request(upgrade: str | None, connection: str, framing: str, name: str = "Connection") -> bytes:
    method = "GET" if framing == "none" else "POST"
    lines = [f"{method} /wanted HTTP/1.1", "Host: x", f"{name}: {connection}", "Expect-Not: 1"]
    lines += [] if upgrade is None else [f"Upgrade: {upgrade}"]
    body = SMUGGLED
    if framing == "length":
        lines.append(f"Content-Length: {len(body)}")
    elif framing == "chunks":
        lines.append("Transfer-Encoding: chunked")
        body = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in (body[:7], body[7:])) + b"0\r\n\r\n"
    else:
        body = b""
    return "\r\n".join([*lines, "", ""]).encode() + body


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


@pytest.mark.parametrize("framing", FRAMINGS)
def test_an_upgrade_is_ignored_and_no_body_is_a_request(echo: Echo, framing: str) -> None:
    for (upgrade, connection), size in product(UPGRADES, (1 << 20, 100)):
        name = "Proxy-Connection" if size == 100 else "Connection"
        echo.seen.clear()
        wanted = request(upgrade, connection, framing, name)
        told = talk(echo, cut(wanted + wanted + get("/after", close=True), size))
        assert [status for status, _ in told] == [200] * 3, (upgrade, connection)
        expected = "" if framing == "none" else SMUGGLED.decode()
        assert [body["body"] for _, body in told] == [expected, expected, ""]
        assert echo.seen == ["/wanted", "/wanted", "/after"]
        assert told[0][1]["upgrade"] == upgrade  # the app sees what was sent


def test_what_cannot_be_ignored_ends_the_connection(echo: Echo) -> None:
    kinds = {
        b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n" + SMUGGLED: [405],
        b"CONNECT /live HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n" + SMUGGLED: [405],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SMUGGLED: [400],
        b"POST /a HTTP/1.1\r\nUpgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 1\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n" + SMUGGLED: [400],
    }
    for sent, statuses in kinds.items():
        assert [status for status, _ in talk(echo, [sent])] == statuses, sent
    assert echo.seen == []
    assert sorted(echo.refused) == [400, 400, 405, 405]


HANDSHAKE = (
    "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)  # fmt: skip


def test_a_websocket_opens_only_where_there_is_one(echo: Echo) -> None:
    with websockets.connect(f"ws://127.0.0.1:{echo.port}/live?x=1", proxy=None) as live:
        live.send("hello")
        assert live.recv(TIMEOUT_S) == "HELLO"
        assert echo.num_connections() == 1  # it counts
    [(status, body)] = talk(echo, [get("/none", *HANDSHAKE, "Connection: close")])
    assert (status, body["upgrade"]) == (200, "websocket")
    [(status, _)] = talk(echo, [get("/live", *HANDSHAKE, *(["X: 1"] * 300))])
    assert status == 431
    with_body = get("/live", *HANDSHAKE, f"Content-Length: {len(SMUGGLED)}") + SMUGGLED
    [(status, body), _] = talk(echo, [with_body, get("/after", close=True)])
    assert (status, body["body"]) == (200, SMUGGLED.decode())


def test_a_websocket_behind_a_running_request(echo: Echo) -> None:
    with closing(echo.connect()) as connection:
        connection.sendall(get("/slow") + get("/live", *HANDSHAKE) + get("/after", close=True))
        eventually(lambda: echo.seen == ["/slow"])
        echo.go_on.set()
        received = b""
        while data := connection.recv(65536):
            received += data
    assert [status for status, _ in answers(received)] == [200] * 3


def test_websockets_are_ended_with_the_server(caplog: pytest.LogCaptureFixture) -> None:
    with Echo().running() as echo:
        live = websockets.connect(f"ws://127.0.0.1:{echo.port}/live", proxy=None)
        half = echo.connect()
        half.sendall(b"POST /a HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\n")
        eventually(lambda: echo.num_connections() == 2)
    live.close()
    half.close()
    assert not [r for r in caplog.records if r.exc_info]


# -- work per byte ---------------------------------------------------------------------------------


def test_a_body_in_tiny_pieces_arrives_in_few(echo: Echo) -> None:
    """One byte for each chunk, then one for each packet: what the app sees is larger."""
    body = b"x" * 20_000
    head = b"POST /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    chunks = b"1\r\nx\r\n" * len(body) + b"0\r\n\r\n"
    length = b"Content-Length: %d\r\n\r\n" % len(body)
    packets = {
        "chunks": [head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks],
        "packets": [head + length, *cut(body, 1)],
    }
    for kind, sent in packets.items():
        echo.num_messages = 0
        [(status, answer)] = talk(echo, sent)
        assert (status, answer["body"]) == (200, body.decode()), kind
        assert echo.num_messages < 2000, kind


def test_of_pipelined_requests_only_a_few_are_read(echo: Echo) -> None:
    """They are answered, and the connection is closed."""
    with closing(echo.connect()) as connection:
        connection.sendall(get("/slow"))
        eventually(lambda: echo.seen == ["/slow"])
        connection.sendall(get("/fast") * 500)
        [served] = echo.server.server_state.connections
        eventually(lambda: len(served.pipeline) == MAX_PIPELINED)  # type: ignore[union-attr]
        echo.go_on.set()
        received = b""
        while data := connection.recv(65536):
            received += data
    told = answers(received)
    assert [status for status, _ in told] == [200] * (1 + MAX_PIPELINED)
    assert echo.refused == []


def test_who_hangs_up_with_pipelined_requests_is_gone(
    echo: Echo, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(echo.connect()) as connection:
        connection.sendall(get("/slow") + get("/fast") * 3)
        eventually(lambda: echo.seen == ["/slow"])
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    eventually(lambda: "/slow ended" in echo.seen)
    eventually(lambda: not echo.server.server_state.tasks)
    assert echo.seen == ["/slow", "/slow ended"]
    assert not [r for r in caplog.records if r.exc_info]
