"""Whom connections of this service trust."""

from __future__ import annotations

import socket
import ssl

import certifi


def tls_context() -> ssl.SSLContext:
    """Trusts the authorities of certifi and those that the system adds."""
    context = ssl.create_default_context(cafile=certifi.where())
    context.set_default_verify_paths()
    return context


def causes(error: BaseException) -> list[BaseException]:
    """An exception and those that led to it."""
    found: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in found:
        found.append(cause)
        cause = cause.__cause__ or cause.__context__
    return found


def is_wrong_certificate(error: BaseException) -> bool:
    return any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes(error))


def is_unknown_host(error: BaseException) -> bool:
    return any(isinstance(cause, socket.gaierror | UnicodeError) for cause in causes(error))
