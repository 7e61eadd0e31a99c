"""WebSockets byte by byte, for what no library sends."""

from __future__ import annotations

import base64
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from tests.support.forms import connect
from tests.support.server import Server
from tests.support.waiting import PATIENCE_S

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
HEADERS = {
    "Host": "x",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
    "Sec-WebSocket-Version": "13",
}


def handshake(path: str, more: str = "", version: str = "1.1", **changed: str | None) -> bytes:
    """`changed`: headers by their names, with `_` for `-`; None: left out. `more`: whole lines."""
    others = {name.replace("_", "-"): value for name, value in changed.items()}
    headers = {**HEADERS, **others}
    lines = [f"{name}: {value}\r\n" for name, value in headers.items() if value is not None]
    return f"GET {path} HTTP/{version}\r\n{''.join(lines)}{more}\r\n".encode()


def frame(
    opcode: int, data: bytes = b"", *, fin: bool = True, reserved: int = 0, masked: bool = True
) -> bytes:
    """One frame. Source: RFC 6455, section 5.2."""
    mask = os.urandom(4) if masked else b""
    head = bytes([fin << 7 | reserved << 4 | opcode])
    return head + _length(len(data), masked) + mask + (_masked(data, mask) if masked else data)


def _length(size: int, masked: bool) -> bytes:
    bit = masked << 7
    if size < 126:
        return bytes([bit | size])
    if size < 1 << 16:
        return bytes([bit | 126]) + struct.pack("!H", size)
    return bytes([bit | 127]) + struct.pack("!Q", size)


def _masked(data: bytes, mask: bytes) -> bytes:
    return bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))


def closing(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, struct.pack("!H", code) + reason)


@dataclass
class Raw:
    """A connection, and the bytes of it that were not looked at."""

    socket: socket.socket
    unread: bytes = b""
    texts: list[str] = field(default_factory=list)
    pongs: list[bytes] = field(default_factory=list)

    def send(self, data: bytes) -> None:
        """A server that has had enough may have closed the connection."""
        with suppress(ConnectionError):
            self.socket.sendall(data)

    def _more(self) -> bool:
        try:
            data = self.socket.recv(65_536)
        except (ConnectionError, TimeoutError):
            return False
        self.unread += data
        return bool(data)

    def answer(self) -> int:
        """The status of the answer to the handshake; 0: there was none before the end."""
        while b"\r\n\r\n" not in self.unread:
            if not self._more():
                return 0
        head, _, self.unread = self.unread.partition(b"\r\n\r\n")
        return int(head.split()[1])

    def next(self) -> tuple[int, bytes] | None:
        """Opcode and data of the next frame; None at the end of the connection."""
        while True:
            if (found := _parsed(self.unread)) is not None:
                opcode, data, self.unread = found
                return opcode, data
            if not self._more():
                return None

    def close_code(self) -> int:
        """How the service closes, whatever it sends before; 0: without a word."""
        code = 0
        while (found := self.next()) is not None:
            opcode, data = found
            if opcode == TEXT:
                self.texts.append(data.decode())
            elif opcode == PONG:
                self.pongs.append(data)
            elif opcode == CLOSE:
                code = struct.unpack("!H", data[:2])[0] if data else 1005
                self.send(frame(CLOSE, data))
        return code


def _parsed(data: bytes) -> tuple[int, bytes, bytes] | None:
    if len(data) < 2:
        return None
    size, at = data[1], 2
    if size == 126:
        size, at = struct.unpack_from("!H", data.ljust(4, b"\0"), 2)[0], 4
    elif size == 127:
        size, at = struct.unpack_from("!Q", data.ljust(10, b"\0"), 2)[0], 10
    if len(data) < at + size:
        return None
    return data[0] & 15, data[at : at + size], data[at + size :]


@contextmanager
def raw(server: Server, request: bytes = b"") -> Iterator[Raw]:
    """A connection on which these bytes are sent."""
    with connect(server) as connection:
        connection.settimeout(PATIENCE_S)
        made = Raw(connection)
        made.send(request)
        yield made


@contextmanager
def opened(server: Server, path: str) -> Iterator[Raw]:
    """A WebSocket."""
    with raw(server, handshake(path)) as made:
        assert made.answer() == 101
        yield made
