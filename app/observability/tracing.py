"""Tracing: a span for each request and each of its stages, where the environment asks for it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from app.observability.record import RequestRecord

log = logging.getLogger(__name__)


class Tracing:
    """Off: this one does nothing."""

    @contextmanager
    def request(self, record: RequestRecord, headers: Mapping[str, str]) -> Iterator[None]:
        """Around a request; the record is read when the block ends."""
        yield

    def close(self) -> None:
        """Send what is still to be sent."""
