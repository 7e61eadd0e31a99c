"""HTTP as clients and proxies use it: upgrades that are offered, WebSockets that are not there."""

from __future__ import annotations

import json
import re
from contextlib import closing
from typing import Any

import httpx

from tests.support.forms import connect, file_part, form, request_head
from tests.support.server import Server

H2C = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
SOCKET = "Connection: Upgrade\r\nUpgrade: websocket\r\n"
HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def exchange(server: Server, packets: list[bytes]) -> tuple[int, Any]:
    """Status and body of the only answer to these packets, for which the connection is closed."""
    with closing(connect(server)) as connection:
        for packet in packets:
            connection.sendall(packet)
        received = b""
        while data := connection.recv(1 << 16):
            received += data
    assert received.count(b"HTTP/1.1 ") == 1
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def test_uploads_with_an_upgrade_on_offer(server: Server) -> None:
    """The JDK's client offers HTTP/2 each time. A body that looks like a request is none."""
    body = form(file_part())
    head = request_head(len(body), f"{H2C}Connection: close\r\n")
    for packets in ([head + body], [head, body], [head[:50], head[50:] + body[:9], body[9:]]):
        status, answer = exchange(server, packets)
        assert (status, answer["language"]) == (200, "en")
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    for upgrade in (H2C, SOCKET):
        head = request_head(len(smuggled), f"{upgrade}Connection: close\r\n")
        status, answer = exchange(server, [head + smuggled])
        assert status == 400
        assert "malformed" in answer["detail"]
    assert "/smuggled" not in server.log()


def test_a_websocket_where_there_is_none(server: Server) -> None:
    with httpx.Client(headers=HANDSHAKE) as client:
        for path in ("/asr", "/health", "/nowhere"):
            answer = client.get(server.url + path)
            assert answer.status_code == 404
            assert re.match("No WebSocket can be opened", answer.json()["detail"])
        answer = client.get(f"{server.url}/v1/audio/transcriptions")
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "no_websocket"
        # what is no handshake is served
        del client.headers["Sec-WebSocket-Key"]
        assert client.get(f"{server.url}/health").json()["status"] == "healthy"
