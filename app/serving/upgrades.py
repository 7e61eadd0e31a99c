"""`Upgrade`: which requests open a WebSocket; the head of all others without it.

A server may ignore an upgrade and answer the request itself. Source: RFC 9110, section 7.8.
"""

from __future__ import annotations

from collections.abc import Iterable

Headers = list[tuple[bytes, bytes]]


def asks_for_websocket(method: bytes, version: str, headers: Headers) -> bool:
    """Whether this head is the handshake of a WebSocket. Source: RFC 6455, section 4.1.

    A request with a body is none: what follows the head would not be frames.
    """
    values = dict(headers)
    return (
        method == b"GET"
        and version == "1.1"
        and values.get(b"upgrade", b"").lower() == b"websocket"
        and b"sec-websocket-key" in values
        and values.get(b"content-length", b"0") == b"0"
        and b"transfer-encoding" not in values
    )


def head_without_upgrade(method: bytes, url: bytes, version: str, headers: Headers) -> bytes:
    """The bytes of a request's head, all headers in their order, but for the upgrade."""
    lines = [b" ".join((method, url, b"HTTP/" + version.encode()))]
    lines += [name + b": " + value for name, value in _without_upgrade(headers)]
    return b"\r\n".join([*lines, b"", b""])


def _without_upgrade(headers: Headers) -> Iterable[tuple[bytes, bytes]]:
    for name, value in headers:
        if name in (b"connection", b"proxy-connection"):
            tokens = (token.strip() for token in value.split(b","))
            yield name, b", ".join(token for token in tokens if token.lower() != b"upgrade")
        elif name != b"upgrade":
            yield name, value
