"""Metrics: what the service counts for Prometheus. Each metric is named and described once.

What is read at each scrape instead is in `gauges.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import Metric

from app.domain.errors import ServiceError
from app.observability.gauges import PREFIX, Facts, JobGauges, Reading, ServiceGauges
from app.observability.record import INTERNAL_ERROR, RequestRecord
from app.observability.stages import Stage

NONE = "none"  # label value if there is no model, dialect or key
OTHER = "other"  # label value for anything unexpected

CERTAINTIES = ("committed", "final")  # of a live stream's words
REFUSALS = ("400", "408", "414", "431", "503")  # statuses of connections refused without a request

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
RATIOS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 5, 10)
JOB_OUTCOMES = ("done", "failed", "cancelled")
WEBHOOK_OUTCOMES = ("delivered", "failed")
DELAYS = (0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30, 60)
ITEMS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Metrics:
    """All metrics of one service, in their own registry. Any thread may write."""

    def __init__(self, facts: Facts, read: Callable[[], Reading]) -> None:
        # these would add a third more series, and nothing reads them
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._errors_known = tuple(_class_names(ServiceError))
        self._warnings_known = facts.warning_kinds
        self._define_requests()
        self._define_models()
        self._define_live()
        # These series exist from the start, so that alerts see the first failure as an increase.
        for kind in (*self._errors_known, INTERNAL_ERROR):
            self._errors.labels(kind)
        for kind in (*self._warnings_known, OTHER):
            self._warnings.labels(kind)
        for stage in Stage:
            self._stage_seconds.labels(stage)
        for certainty in CERTAINTIES:
            self._word_delay.labels(certainty)
        for status in REFUSALS:
            self._refused.labels(status)
        for kind in facts.model_kinds:
            self._loads.labels(kind)
            self._load_failures.labels(kind)
            self._evictions.labels(kind)
        self.registry.register(ServiceGauges(facts, read))
        prometheus_client.ProcessCollector(registry=self.registry)
        prometheus_client.PlatformCollector(registry=self.registry)
        prometheus_client.GCCollector(registry=self.registry)

    def _define_requests(self) -> None:
        self._requests = self._counter(
            "requests", "Requests answered.", "endpoint", "dialect", "model", "status", "client"
        )
        self._refused = self._counter(
            "connections_refused",
            "Connections refused without a request: too large, too slow, invalid HTTP, too many.",
            "status",
        )
        self._errors = self._counter("errors", "Requests that failed, by kind of error.", "kind")
        self._warnings = self._counter(
            "warnings", "Transcripts with a warning, by kind of warning.", "kind"
        )
        self._request_seconds = self._histogram(
            "request_seconds",
            "Seconds from the first byte of a request to the last byte of its answer.",
            SECONDS,
            "endpoint",
        )
        self._stage_seconds = self._histogram(
            "stage_seconds",
            "Seconds of a request in each stage. Alignment and diarization run in parallel with "
            "other stages, so the sum may exceed the time of the request.",
            SECONDS,
            "stage",
        )
        self._audio_seconds = self._counter(
            "audio_seconds",
            "Seconds of audio in successful requests.",
            "endpoint",
            "model",
            "client",
        )
        self._processing_seconds = self._counter(
            "processing_seconds",
            "Seconds that these requests took after their upload, including waiting.",
            "endpoint",
            "model",
            "client",
        )
        self._rtf = self._histogram(
            "rtf",
            "Real-time factor of a request: processing seconds / audio seconds. Lower is better.",
            RATIOS,
            "endpoint",
            "model",
        )
        self._joined = self._counter(
            "joined", "Requests that joined an equal one; their audio counts once.", "endpoint"
        )
        self._upload_bytes = self._counter("upload_bytes", "Bytes of uploaded files.")
        self._jobs_ended = self._counter(
            "jobs_ended", "Jobs that ended in this process.", "outcome"
        )
        self._webhooks = self._counter(
            "webhook_deliveries", "Webhooks that were delivered or given up.", "outcome"
        )

    def _define_models(self) -> None:
        self._batch_items = self._histogram("batch_items", "Items in a batch.", ITEMS, "kind")
        self._batch_room = self._counter(
            "batch_room_items", "Items that these batches could have held.", "kind"
        )
        self._batch_seconds = self._histogram(
            "batch_seconds", "Seconds of one model call.", SECONDS, "kind"
        )
        self._loads = self._counter("model_loads", "Models loaded.", "kind")
        self._load_seconds = self._histogram(
            "model_load_seconds",
            "Seconds to load a model, including its download.",
            SECONDS,
            "kind",
        )
        self._load_failures = self._counter(
            "model_load_failures", "Models that failed to load.", "kind"
        )
        self._evictions = self._counter("model_evictions", "Models unloaded.", "kind")

    def _define_live(self) -> None:
        self._streams = Gauge(
            PREFIX + "live_streams", "Live streams that are open.", registry=self.registry
        )
        self._live_audio = self._counter(
            "live_audio_seconds", "Seconds of sound that live streams brought."
        )
        self._word_delay = self._histogram(
            "live_word_delay_seconds",
            "Seconds from the arrival of a word's end until the word is certain (committed) or its "
            "utterance has its transcript (final).",
            DELAYS,
            "certainty",
        )
        self._lagging = self._counter(
            "live_lagging", "Times that a live stream was told how far the service is behind."
        )

    def stream_opened(self) -> None:
        self._streams.inc()

    def stream_closed(self) -> None:
        self._streams.dec()

    def stream_heard(self, audio_s: float) -> None:
        self._live_audio.inc(audio_s)

    def word_known(self, certainty: str, delay_s: float) -> None:
        """`certainty`: one of `CERTAINTIES`."""
        self._word_delay.labels(certainty).observe(max(0.0, delay_s))

    def stream_lags(self) -> None:
        self._lagging.inc()

    def _counter(self, name: str, description: str, *labels: str) -> Counter:
        return Counter(PREFIX + name, description, labels, registry=self.registry)

    def _histogram(
        self, name: str, description: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        return Histogram(
            PREFIX + name, description, labels, buckets=buckets, registry=self.registry
        )

    def request(self, record: RequestRecord) -> None:
        """Count a finished request. `client_name` is the name of a key, so there are few values."""
        endpoint, model, client = record.endpoint, record.model or NONE, record.client_name or NONE
        dialect, status = record.dialect or NONE, str(record.status)
        self._requests.labels(endpoint, dialect, model, status, client).inc()
        self._request_seconds.labels(endpoint).observe(record.seconds)
        for stage, seconds in record.stages.seconds().items():
            self._stage_seconds.labels(stage).observe(seconds)
        if record.error:
            known = record.error in self._errors_known
            self._errors.labels(record.error if known else INTERNAL_ERROR).inc()
        for warning in record.warnings:
            self._warnings.labels(warning if warning in self._warnings_known else OTHER).inc()
        if record.joined:
            self._joined.labels(endpoint).inc()
        if record.upload_bytes:
            self._upload_bytes.inc(record.upload_bytes)
        if record.rtf is not None and record.audio_s:
            self._audio_seconds.labels(endpoint, model, client).inc(record.audio_s)
            self._processing_seconds.labels(endpoint, model, client).inc(record.processing_s)
            self._rtf.labels(endpoint, model).observe(record.rtf)

    def connection_refused(self, status: int) -> None:
        """Count a connection that was refused without a request."""
        self._refused.labels(str(status)).inc()

    def show_jobs(self, read: Callable[[], Mapping[str, int]]) -> None:
        """Show how many jobs are in each state. `read`: empty if that is not known at present."""
        for outcome in JOB_OUTCOMES:
            self._jobs_ended.labels(outcome)
        for outcome in WEBHOOK_OUTCOMES:
            self._webhooks.labels(outcome)
        self.registry.register(JobGauges(read))

    def job_ended(self, outcome: str) -> None:
        self._jobs_ended.labels(outcome).inc()

    def webhook_ended(self, outcome: str) -> None:
        self._webhooks.labels(outcome).inc()

    def batch(self, kind: str, num_items: int, room: int, seconds: float) -> None:
        """Count a batch that a model worked on, with room for `room` items."""
        self._batch_items.labels(kind).observe(num_items)
        self._batch_room.labels(kind).inc(room)
        self._batch_seconds.labels(kind).observe(seconds)

    def model_loaded(self, kind: str, seconds: float) -> None:
        self._loads.labels(kind).inc()
        self._load_seconds.labels(kind).observe(seconds)

    def model_failed(self, kind: str) -> None:
        self._load_failures.labels(kind).inc()

    def model_unloaded(self, kind: str) -> None:
        self._evictions.labels(kind).inc()

    def figures(self) -> tuple[Metric, ...]:
        """All metrics with their values now. They can be pickled."""
        return tuple(self.registry.collect())


def _class_names(kind: type[ServiceError]) -> Iterator[str]:
    yield kind.__name__
    for special in kind.__subclasses__():
        yield from _class_names(special)
