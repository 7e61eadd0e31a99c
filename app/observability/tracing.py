"""Tracing: a span for each request and each of its stages, where the environment asks for it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from app.config.settings import trace_exporters
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


def build_tracing() -> Tracing:
    """What the usual variables of OpenTelemetry say.

    Raises:
        ConfigurationError: they name an exporter that there is none of.
    """
    exporters = trace_exporters()
    if not exporters:
        return Tracing()
    try:
        # Here and not above: an extra, and nothing of it is imported where tracing is off.
        from app.observability.otel import OpenTelemetryTracing
    except ImportError:
        log.error(
            "no traces: OTEL_* variables ask for them, but OpenTelemetry is not installed "
            "(pip install 'whisperx-asr-service[otel]')"
        )
        return Tracing()
    return OpenTelemetryTracing(exporters)
