"""What the headers of a request may tell the proxies of Ray Serve: nothing but its ID. Pure."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import TypeAlias

from app.api.middleware.request_id import HARMLESS, HEADER

Headers: TypeAlias = list[tuple[bytes, bytes]]

REQUEST_ID = HEADER.lower().encode()
# By these, clients may choose a time-out and a replica, or have their request go on when they are
# gone; `_` instead of `-` is the same to Ray Serve.
HINTS = frozenset({
    b"x-request-timeout-seconds", b"x-request-disconnect-disabled", b"x-session-id",
    b"serve-multiplexed-model-id",
})  # fmt: skip


def own_headers(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Without hints to the proxy, and with an ID: the client's if it is harmless, else a new one.
    The proxy would make another one, and would fail at an ID that is no text.
    """
    given = b""
    kept: Headers = []
    for name, value in headers:
        known = name.lower().replace(b"_", b"-")
        if known == REQUEST_ID:
            given = given or value
        elif known not in HINTS:
            kept.append((name, value))
    text = given.decode("latin-1")
    request_id = text if HARMLESS.fullmatch(text) else secrets.token_hex(8)
    return [*kept, (REQUEST_ID, request_id.encode())]


def stated_bytes(headers: Iterable[tuple[bytes, bytes]]) -> int:
    """The length of the body as its client says; 0 if that is not known."""
    for name, value in headers:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0


def awaits_word(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether the client sends its body only once it is asked to."""
    return any(name == b"expect" for name, _ in headers)


def with_one_id(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Of an answer, to which the proxy adds the ID of its request: the front's comes first, and is
    another one if the client's was taken.
    """
    kept: Headers = []
    has_id = False
    for name, value in headers:
        is_id = name.lower() == REQUEST_ID
        if not (is_id and has_id):
            kept.append((name, value))
        has_id = has_id or is_id
    return kept
