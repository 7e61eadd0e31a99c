"""The Prometheus metrics that /metrics shows. Each is named and described once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from app.domain.errors import ServiceError
from app.observability.record import INTERNAL_ERROR, RequestRecord
from app.observability.stages import Stage

PREFIX = "whisperx_asr_"
NONE = "none"  # label value if there is no model, dialect or key
REPLICA = "replica"  # label of every sample if there are several processes
OTHER = "other"  # label value for anything unexpected

CERTAINTIES = ("committed", "final")  # of a live stream's words
REFUSALS = ("400", "408", "414", "431", "503")  # statuses of connections refused without a request
MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")  # the container's limit (cgroup v2)

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
RATIOS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 5, 10)
JOB_OUTCOMES = ("done", "failed", "cancelled")
WEBHOOK_OUTCOMES = ("delivered", "failed")
DELAYS = (0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30, 60)
ITEMS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


@dataclass(frozen=True, slots=True)
class GpuMemory:
    """In bytes. `used`: by all processes. `reserved`: by PyTorch in this process."""

    device: str
    used: int
    total: int
    reserved: int


@dataclass(frozen=True, slots=True)
class Reading:
    """Values that are read for each scrape. `loaded`: (kind, name) of each model."""

    ready: bool
    num_waiting: int
    num_running: int
    audio_s: float
    loaded: tuple[tuple[str, str], ...]
    gpus: tuple[GpuMemory, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """Values that never change, and the known values of labels."""

    version: str
    device: str
    compute_type: str
    max_requests: int
    max_audio_s: float
    memory_limit_bytes: int
    warning_kinds: tuple[str, ...]
    model_kinds: tuple[str, ...] = ()


Figures: TypeAlias = Mapping[str, Sequence[Metric]]  # by the name of a process
NO_OTHERS: Figures = MappingProxyType({})


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
        self.registry.register(_Gauges(facts, read))
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
        self.registry.register(_JobGauges(read))

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

    def expose(
        self, accept: str = "", replica: str = "", others: Figures = NO_OTHERS
    ) -> tuple[bytes, str]:
        """The body of a scrape and its content type. `accept` is the request's Accept header.

        `replica`: the name of this process among others of the same service; then all samples are
        labelled with such a name. `others`: their figures.
        """
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # a version that is no number
            encode, content_type = choose_encoder("")
        if not replica:
            return encode(self.registry), content_type
        joined = CollectorRegistry()
        joined.register(_Joined({replica: self.figures(), **others}))
        return encode(joined), content_type


class _Gauges(Collector):
    """Gauges, read from the service at each scrape."""

    def __init__(self, facts: Facts, read: Callable[[], Reading]) -> None:
        self._facts = facts
        self._read = read

    def describe(self) -> Iterable[Metric]:
        return ()  # registering must not read the service

    def collect(self) -> Iterator[Metric]:
        facts, now = self._facts, self._read()
        yield _gauge(
            "info",
            "Always 1. The labels show the version and the device of the models.",
            {(facts.version, facts.device, facts.compute_type): 1},
            "version", "device", "compute_type",
        )  # fmt: skip
        yield _gauge("ready", "1 if the service accepts requests.", {(): now.ready})
        yield _gauge(
            "queue_requests",
            "Requests in progress. waiting: no speech has been found yet.",
            {("waiting",): now.num_waiting, ("running",): now.num_running},
            "state",
        )
        yield _gauge(
            "queue_audio_seconds", "Seconds of decoded audio in progress.", {(): now.audio_s}
        )
        yield _gauge("queue_limit_requests", "MAX_QUEUE_SIZE.", {(): facts.max_requests})
        yield _gauge(
            "queue_limit_audio_seconds", "MAX_QUEUE_AUDIO_SECONDS.", {(): facts.max_audio_s}
        )
        loaded = dict.fromkeys(now.loaded, 1)
        yield _gauge("model_loaded", "1 for each model in memory.", loaded, "kind", "name")
        yield _gauge(
            "memory_limit_bytes",
            "Memory that the process may use: the container's limit or the machine's memory.",
            {(): facts.memory_limit_bytes},
        )
        for name, description in (
            ("used", "GPU memory in use by all processes."),
            ("total", "GPU memory in total."),
            ("reserved", "GPU memory that PyTorch holds in this process, without recognition's."),
        ):
            values = {(gpu.device,): getattr(gpu, name) for gpu in now.gpus}
            yield _gauge(f"gpu_memory_{name}_bytes", description, values, "device")


class _Joined(Collector):
    """The figures of several processes, each sample with the name of its process."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for replica, metrics in self._figures.items():
            for metric in metrics:
                same = Metric(metric.name, metric.documentation, metric.type)
                family = families.setdefault(metric.name, same)
                family.samples.extend(
                    sample._replace(labels={**sample.labels, REPLICA: replica})
                    for sample in metric.samples
                )
        yield from families.values()


class _JobGauges(Collector):
    """Jobs of all processes that share the database, read at each scrape."""

    def __init__(self, read: Callable[[], Mapping[str, int]]) -> None:
        self._read = read

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        values = {(state,): number for state, number in self._read().items()}
        yield _gauge("jobs", "Jobs of all processes that have not ended.", values, "state")


def _gauge(name: str, description: str, values: Mapping[Any, float], *labels: str) -> Metric:
    family = GaugeMetricFamily(PREFIX + name, description, labels=labels)
    for label_values, value in values.items():
        family.add_metric(label_values, value)
    return family


def _class_names(kind: type[ServiceError]) -> Iterator[str]:
    yield kind.__name__
    for special in kind.__subclasses__():
        yield from _class_names(special)


def memory_limit_bytes() -> int:
    """Memory that this process may use: the container's limit or the machine's memory."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(machine, int(MEMORY_LIMIT.read_text()))
    except (OSError, ValueError):  # no such file, or "max"
        return machine
