"""Clients of /stream."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.support.server import Server
from tests.support.waiting import PATIENCE_S

Message = dict[str, Any]
PIECE = 1_600  # samples: 0.1 s
TEXT, BINARY = 1, 2  # opcodes


def address(server: Server, path: str = "/stream") -> str:
    return server.url.replace("http", "ws") + path


class Stream:
    """Keeps all that the service sends."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.messages: list[Message] = []
        self.code: int | None = None  # of the close
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for text in self.socket:
                self._add(json.loads(text))
        except ConnectionClosed:
            pass
        with self._changed:
            self.code = self.socket.close_code
            self._changed.notify_all()

    def _add(self, message: Message) -> None:
        with self._changed:
            self.messages.append(message)
            self._changed.notify_all()

    def say(self, samples: np.ndarray, piece: int = PIECE, kind: str = "<f4") -> None:
        """As fast as the service takes it."""
        sound = samples if kind == "<f4" else np.clip(samples * 32768, -32768, 32767)
        data = sound.astype(kind).tobytes()
        size = piece * np.dtype(kind).itemsize
        for at in range(0, len(data), size):
            self.socket.send(data[at : at + size])

    def command(self, name: str, **more: Any) -> None:
        self.socket.send(json.dumps({"command": name, **more}))

    def wait(
        self, wanted: Callable[[Message], Any], number: int = 1, patience_s: float = PATIENCE_S
    ) -> Message:
        """The message that is so, once it has come."""
        with self._changed:
            self._changed.wait_for(
                lambda: len(self.all(wanted)) >= number or self.code is not None, patience_s
            )
        found = self.all(wanted)
        assert len(found) >= number, (self.code, self.messages[-5:])
        return found[number - 1]

    def all(self, wanted: Callable[[Message], Any]) -> list[Message]:
        return [message for message in list(self.messages) if wanted(message)]

    def end(self, patience_s: float = PATIENCE_S) -> list[Message]:
        """Have the rest transcribed; all messages."""
        self.command("end")
        self.closed(patience_s)
        return self.messages

    def closed(self, patience_s: float = PATIENCE_S) -> int | None:
        """The code of the close, once it has come."""
        self._thread.join(patience_s)
        assert not self._thread.is_alive(), self.messages[-5:]
        return self.code

    def results(self) -> list[Message]:
        return self.all(lambda message: "processing_time" in message)

    def text(self) -> str:
        return " ".join(result["text"] for result in self.results())

    def words(self) -> list[Message]:
        return [
            word
            for result in self.results()
            for segment in result["segments"]
            for word in segment["words"]
        ]


def status(name: str) -> Callable[[Message], bool]:
    return lambda message: message.get("status") == name


def event(name: str) -> Callable[[Message], bool]:
    return lambda message: message.get("event") == name


@contextmanager
def stream(server: Server, path: str = "/stream", **config: Any) -> Iterator[Stream]:
    """A stream with this configuration. `headers`, `subprotocols`: of the handshake."""
    handshake = {
        "additional_headers": config.pop("headers", None),
        "subprotocols": config.pop("subprotocols", None),
    }
    with connect(
        address(server, path), max_size=None, open_timeout=60, ping_interval=None, **handshake
    ) as socket:
        socket.send(json.dumps(config))
        yield Stream(socket)


def in_real_time(stream: Stream, samples: np.ndarray) -> None:
    begun = time.monotonic()
    for at in range(0, len(samples), PIECE):
        time.sleep(max(0.0, begun + at / 16_000 - time.monotonic()))
        stream.say(samples[at : at + PIECE])


def frame(data: bytes, opcode: int = BINARY, final: bool = True) -> bytes:
    """Of at most 125 bytes, as clients mask it: with a key of zeros."""
    assert len(data) < 126
    return bytes([final << 7 | opcode, 0x80 | len(data)]) + bytes(4) + data


def bare_stream(server: Server, path: str = "/stream") -> socket.socket:
    """A stream whose frames the test writes by itself."""
    bare = socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), 60)
    bare.sendall(
        f"GET {path} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n".encode()
    )
    head = bare.recv(4096).lower()
    assert b" 101 " in head
    assert b"permessage-deflate" not in head
    return bare
