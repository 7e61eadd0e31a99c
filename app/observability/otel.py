"""Tracing with OpenTelemetry's SDK. It reads its own variables (endpoint, headers, sampler)."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import entry_points
from typing import Any

from opentelemetry.propagate import extract
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, format_trace_id, use_span
from structlog.contextvars import bound_contextvars

from app import __version__
from app.domain.errors import ConfigurationError
from app.observability.record import RequestRecord
from app.observability.tracing import Tracing

NAME = "whisperx-asr-service"
EXPORTERS = "opentelemetry_traces_exporter"  # the SDK's group of entry points
NS = 1_000_000_000
MAX_HEADER = 512  # characters; tracestate is the longest one
LAST_EXPORT_S = 3.0  # for the last spans when the process ends


class OpenTelemetryTracing(Tracing):
    """Uses its own provider, so that the libraries' own traces are not mixed in."""

    def __init__(self, exporters: Sequence[str]) -> None:
        """`exporters`: names of entry points, e.g. otlp_proto_http."""
        self._provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        for name in exporters:
            self._provider.add_span_processor(BatchSpanProcessor(_exporter(name)))
        self._tracer = self._provider.get_tracer(NAME, __version__)
        _enable_log()

    @contextmanager
    def request(self, record: RequestRecord, headers: Mapping[str, str]) -> Iterator[None]:
        span = self._tracer.start_span(
            record.method,
            context=extract(_short(headers)),
            kind=SpanKind.SERVER,
            start_time=_ns(record, record.stages.started),
        )
        trace_id = format_trace_id(span.get_span_context().trace_id)
        try:
            # exceptions are in the log; their text may be private and stays there
            with use_span(span, record_exception=False), bound_contextvars(trace_id=trace_id):
                yield
        finally:
            if span.is_recording():
                self._describe(span, record)
            span.end()

    def _describe(self, span: Span, record: RequestRecord) -> None:
        span.update_name(f"{record.method} {record.endpoint}")
        known: dict[str, Any] = {
            "http.request.method": record.method,
            "http.route": record.endpoint,
            "http.response.status_code": record.status,
            "error.type": record.error,
            "asr.request_id": record.request_id,
            "asr.dialect": record.dialect,
            "asr.model": record.model,
            "asr.audio_seconds": record.audio_s,
            "asr.rtf": record.rtf,
            "asr.upload_bytes": record.upload_bytes,
            "asr.warnings": record.warnings,
        }
        span.set_attributes({k: v for k, v in known.items() if v not in ("", None, ())})
        if record.status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        with use_span(span):
            for item in list(record.stages.times):
                child = self._tracer.start_span(item.stage, start_time=_ns(record, item.started))
                if item.error:
                    child.set_status(Status(StatusCode.ERROR, item.error))
                child.end(_ns(record, item.started + item.seconds))

    def close(self) -> None:
        # if the collector does not answer, the SDK keeps trying for more than ten seconds
        ending = threading.Thread(target=self._provider.shutdown, name="otel", daemon=True)
        ending.start()
        ending.join(LAST_EXPORT_S)


def _enable_log() -> None:
    """pyannote.audio silences all of OpenTelemetry's loggers for its own telemetry: undo that."""
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("opentelemetry"):
            logging.getLogger(name).setLevel(logging.NOTSET)


def _short(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that may be of a trace. The SDK repeats longer ones in its log."""
    return {name: value for name, value in headers.items() if len(value) <= MAX_HEADER}


def _ns(record: RequestRecord, moment: float) -> int:
    return int(record.stages.epoch_s(moment) * NS)


def _resource() -> Resource:
    found = Resource.create()
    if str(found.attributes[SERVICE_NAME]).startswith("unknown_service"):
        return found.merge(Resource({SERVICE_NAME: NAME}))
    return found


def _exporter(name: str) -> SpanExporter:
    found = entry_points(group=EXPORTERS, name=name)
    if not found:
        known = ", ".join(sorted(entry_points(group=EXPORTERS).names))
        raise ConfigurationError(
            f"OTEL_TRACES_EXPORTER: unknown exporter {name!r}; it must be none, otlp, {known}."
        )
    exporter: SpanExporter = next(iter(found)).load()()
    return exporter
