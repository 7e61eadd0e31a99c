"""Tracing: a span for each request and each of its stages, if the environment enables it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from app.observability.record import RequestRecord


class Tracing:
    """Tracing that is off: it does nothing."""

    @contextmanager
    def request(self, record: RequestRecord, headers: Mapping[str, str]) -> Iterator[None]:
        """Trace the request that the block serves. The record is read when the block ends."""
        yield

    def close(self) -> None:
        """Send what has not been sent yet."""
