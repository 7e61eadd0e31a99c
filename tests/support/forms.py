"""Multipart forms and requests by hand, for what no HTTP library sends; and what must follow."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable
from typing import Any

import httpx

from tests.support.server import Server
from tests.support.truth import audio_of
from tests.support.waiting import eventually

BOUNDARY = "frontier"
WORDS = ["Can", "you", "check", "the", "report?", "The", "building", "is", "late."]


def part(name: str, content: bytes, file_name: bytes | None = None, more: bytes = b"") -> bytes:
    disposition = f'Content-Disposition: form-data; name="{name}"'.encode()
    if file_name is not None:
        disposition += b'; filename="' + file_name + b'"'
    head = b"--" + BOUNDARY.encode() + b"\r\n" + disposition + b"\r\n" + more
    return head + b"\r\n" + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def file_part(content: bytes | None = None, name: bytes = b"a.flac") -> bytes:
    return part(
        "audio_file", audio_of("en_short").read_bytes() if content is None else content, name
    )


MULTIPART = f"multipart/form-data; boundary={BOUNDARY}"


def send(
    server: Server,
    body: bytes | Iterable[bytes],
    content_type: str = MULTIPART,
    query: str = "output=json&language=en&diarize=false&word_timestamps=true",
) -> httpx.Response:
    return httpx.post(
        f"{server.url}/asr?{query}",
        content=body,
        headers={"Content-Type": content_type},
        timeout=60,
    )


def works(server: Server) -> None:
    """The next request is served, and nothing is left of those before."""
    eventually(lambda: server.get("/queue").json() == {"requests": []})
    eventually(lambda: server.temp_files() == [])
    transcribed(send(server, form(file_part())))


def transcribed(response: httpx.Response) -> None:
    assert response.status_code == 200, response.text
    assert response.json()["text"].split() == WORDS


def refused(response: httpx.Response, status: int, *words: str) -> None:
    assert response.status_code == status, response.text
    detail = response.json()["detail"]
    assert all(word in detail for word in words), detail


def connect(server: Server) -> socket.socket:
    port = int(server.url.rsplit(":", 1)[1])
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def request_head(length: int | None, more: str = "") -> bytes:
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return (
        f"POST /asr?output=json HTTP/1.1\r\nHost: x\r\nContent-Type: {MULTIPART}\r\n"
        f"{size}\r\n{more}\r\n"
    ).encode()


def answer(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    """Status and body of what the service says before it hangs up or falls silent."""
    received = b""
    while b"}" not in received and (data := connection.recv(65536)):
        received += data
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)
