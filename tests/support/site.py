"""A web server on this machine whose answers are given by path, and that counts what reaches it."""

from __future__ import annotations

import shutil
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

PIECE = bytes(64 << 10)


@dataclass(frozen=True)
class Received:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Site:
    """`answers`: by path; others are 404. `received`: all requests, in order. `certificate`: a file
    with it and its key, for TLS.
    """

    def __init__(self, address: str, port: int, certificate: Path | None = None) -> None:
        self.host = f"{address}:{port}"
        self.url = f"{'https' if certificate else 'http'}://{self.host}"
        self._certificate = certificate
        self.answers: dict[str, Answer] = {}
        self.received: list[Received] = []
        self.closing = threading.Event()
        self._address = (address, port)
        self._server: _Server | None = None

    def __enter__(self) -> Site:
        site = self

        class Handler(_Handler):
            served_by = site

        self.closing.clear()
        self._server = _Server(self._address, Handler)
        if self._certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self._certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """From here on connections are refused."""
        self.closing.set()
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()

    def requests_of(self, path: str) -> list[Received]:
        return [request for request in self.received if request.path == path]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    served_by: Site

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.served_by.received.append(Received(self.command, self.path, headers, body))
        answer = self.served_by.answers.get(self.path.partition("?")[0], status(404))
        answer(self)

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


Answer = Callable[[_Handler], None]


def _begin(handler: _Handler, code: int, headers: dict[str, str]) -> None:
    handler.send_response(code)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()


def status(code: int, **headers: str) -> Answer:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler: _begin(handler, code, {"Content-Length": "0", **fields})


def redirect(url: str) -> Answer:
    return status(302, Location=url)


def content(body: bytes, kind: str, length: int | None = None, **headers: str) -> Answer:
    """`length`: what the header says, if it is wrong."""

    def answer(handler: _Handler) -> None:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        size = str(len(body) if length is None else length)
        _begin(handler, 200, {"Content-Type": kind, "Content-Length": size, **fields})
        if handler.command != "HEAD":
            handler.wfile.write(body)

    return answer


def page(body: str, title: str = "") -> Answer:
    head = f"<head><title>{title}</title></head>"
    return content(f"<html>{head}<body>{body}</body></html>".encode(), "text/html")


def playlist(*segments: str, segment_s: int = 10) -> Answer:
    lines = ["#EXTM3U", f"#EXT-X-TARGETDURATION:{segment_s}"]
    for segment in segments:
        lines += [f"#EXTINF:{segment_s},", segment]
    body = "\n".join([*lines, "#EXT-X-ENDLIST", ""]).encode()
    return content(body, "application/vnd.apple.mpegurl")


def endless(kind: str = "audio/mpeg") -> Answer:
    """Bytes without end."""

    def answer(handler: _Handler) -> None:
        _begin(handler, 200, {"Content-Type": kind})
        while not handler.served_by.closing.is_set():
            handler.wfile.write(PIECE)

    return answer


def hanging(first: bytes = b"") -> Answer:
    """Headers, `first`, then nothing."""

    def answer(handler: _Handler) -> None:
        _begin(handler, 200, {"Content-Type": "audio/flac"})
        handler.wfile.write(first)
        handler.served_by.closing.wait()

    return answer


def silent(handler: _Handler) -> None:
    """Never answers."""
    handler.served_by.closing.wait()


def reset(first: bytes) -> Answer:
    """The connection is reset after `first`."""

    def answer(handler: _Handler) -> None:
        _begin(handler, 200, {"Content-Type": "audio/flac", "Content-Length": "1000000"})
        handler.wfile.write(first)
        handler.wfile.flush()
        linger = struct.pack("ii", 1, 0)
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        handler.connection.close()

    return answer


def in_turn(*answers: Answer) -> Answer:
    """One after the other; the last one stays."""
    left = list(answers)

    def answer(handler: _Handler) -> None:
        (left.pop(0) if len(left) > 1 else left[0])(handler)

    return answer


def dripping(handler: _Handler) -> None:
    """Headers without end, a byte now and then."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while not handler.served_by.closing.wait(0.1):
        handler.wfile.write(b"a")


def own_certificate(folder: Path, address: str) -> Path:
    """A file with a certificate that nobody has signed, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is missing")
    key, certificate, both = (folder / name for name in ("key.pem", "certificate.pem", "both.pem"))
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=test", "-keyout", key, "-out", certificate]
    command += ["-addext", f"subjectAltName=IP:{address}"]
    subprocess.run(command, check=True, capture_output=True)
    both.write_bytes(key.read_bytes() + certificate.read_bytes())
    return both
