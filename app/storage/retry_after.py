"""The header Retry-After."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

A_DAY_S = 86_400


def retry_after_s(value: str) -> int | None:
    """Seconds that a server asks to wait, of a number or a date; at most a day. None: unknown."""
    value = value.strip()
    if value.isascii() and value.isdecimal():
        return int(value) if len(value) < 6 and int(value) < A_DAY_S else A_DAY_S
    try:
        left_s = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(0, round(left_s)), A_DAY_S)
