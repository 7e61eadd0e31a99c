"""Refuses bodies and parts of forms that are encoded in a way that nothing here decodes."""

from __future__ import annotations

from starlette.requests import Request

from app.domain.errors import UnsupportedEncoding

# RFC 7578 forbids senders to use any other.
PLAIN_ENCODINGS = {b"binary", b"8bit", b"7bit"}


def check_encoding(request: Request) -> None:
    """Raises UnsupportedEncoding if the body is compressed."""
    codings = request.headers.get("content-encoding", "").lower().replace(",", " ").split()
    if set(codings) - {"identity"}:
        raise UnsupportedEncoding(
            "Content-Encoding: a compressed body is not supported; send it as it is."
        )


def check_transfer_encoding(value: bytes) -> None:
    """Raises UnsupportedEncoding. `value`: of a part's Content-Transfer-Encoding."""
    if value.strip().lower() not in PLAIN_ENCODINGS:
        raise UnsupportedEncoding(
            "A part of the form has a Content-Transfer-Encoding; send its bytes as they are."
        )
