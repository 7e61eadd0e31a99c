"""Which tracing the environment asks for."""

from __future__ import annotations

import logging

from app.config.environment import trace_exporters
from app.observability.tracing import Tracing

log = logging.getLogger(__name__)


def build_tracing() -> Tracing:
    """Tracing as OpenTelemetry's usual variables configure it, or tracing that does nothing.

    Raises:
        ConfigurationError: the variables name an unknown exporter.
    """
    exporters = trace_exporters()
    if not exporters:
        return Tracing()
    try:
        # Imported only here: OpenTelemetry is an optional extra.
        from app.observability.otel import OpenTelemetryTracing
    except ImportError:
        log.error(
            "tracing is off: OTEL_* variables are set, but OpenTelemetry is not installed "
            "(pip install 'whisperx-asr-service[otel]')"
        )
        return Tracing()
    return OpenTelemetryTracing(exporters)
