"""Why a stream was closed: codes and reasons."""

from __future__ import annotations

from app.api.statuses import status_of
from app.domain.errors import (
    Cancelled,
    DeadlineExceeded,
    ModelUnavailable,
    Overloaded,
    RateLimited,
    ServiceError,
    ShuttingDown,
)

# Source: RFC 6455, section 7.4.1.
NORMAL, GOING_AWAY, POLICY, FAILED, RESTART, TOO_BUSY = 1000, 1001, 1008, 1011, 1012, 1013
HTTP_SERVER_ERROR = 500
MAX_REASON_BYTES = 123


def short_reason(text: str) -> str:
    """As much of a sentence as a close may carry."""
    return text.encode(errors="replace")[:MAX_REASON_BYTES].decode(errors="ignore")


def close_code(error: ServiceError) -> int:
    match error:
        case ShuttingDown():
            return RESTART
        case Overloaded() | ModelUnavailable() | RateLimited():
            return TOO_BUSY
        case Cancelled():
            return GOING_AWAY
        case DeadlineExceeded():
            return POLICY
        case _:
            return POLICY if status_of(error) < HTTP_SERVER_ERROR else FAILED
