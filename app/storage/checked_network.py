"""A network for httpcore that connects to permitted addresses only, and in limited time.

A name is looked up once, and the connection goes to an address of that answer. So a name that
changes between a check and a connection changes nothing.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterable
from typing import Any

import httpcore

from app.storage.egress import EgressRules

Resolve = Callable[[str, int], Iterable[str]]


class ForbiddenAddress(Exception):
    """The name leads to no address that may be connected to."""


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a name. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class CheckedNetwork(httpcore.NetworkBackend):
    """For one request. `deadline`: of the monotonic clock, for all that happens."""

    def __init__(
        self, rules: EgressRules, deadline: float, connect_s: float, look_up: Resolve = resolve
    ) -> None:
        self._rules = rules
        self._deadline = deadline
        self._connect_s = connect_s
        self._look_up = look_up
        self._network = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Raises ForbiddenAddress, httpcore.ConnectError or httpcore.ConnectTimeout."""
        try:
            addresses = list(self._look_up(host, port))
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError("unknown host") from error
        permitted = [address for address in addresses if self._rules.permits(address)]
        if not permitted:
            raise ForbiddenAddress
        return self._connect(permitted, port)

    def _connect(self, addresses: list[str], port: int) -> httpcore.NetworkStream:
        """To the first address that answers."""
        *others, last = addresses
        for address in others:
            try:
                return self._connect_to(address, port)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return self._connect_to(last, port)

    def _connect_to(self, address: str, port: int) -> httpcore.NetworkStream:
        timeout_s = min(self._connect_s, left_s(self._deadline))
        return _TimedStream(
            self._network.connect_tcp(address, port, timeout=timeout_s), self._deadline
        )


class _TimedStream(httpcore.NetworkStream):
    """Ends at the deadline, also if a byte comes now and then."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, left_s(self._deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, left_s(self._deadline))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        secured = self._stream.start_tls(ssl_context, server_hostname, left_s(self._deadline))
        return _TimedStream(secured, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def left_s(deadline: float) -> float:
    """Raises httpcore.ReadTimeout beyond the deadline."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout
    return left
