"""Service: the object graph that the endpoints work with."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.audio.decode_pool import DecodePool
from app.config.settings import Settings
from app.engine.store import ModelStore
from app.formats.subtitles import SubtitleStyle
from app.models.catalog import Catalog
from app.observability.logs import log_request
from app.observability.metrics import Metrics
from app.observability.record import RequestRecord
from app.observability.tracing import Tracing
from app.pipeline.transcriber import Transcriber
from app.service.admission import Admission
from app.service.calls import Calls
from app.service.threads import Threads
from app.storage.tempdir import PrivateDirectory

if TYPE_CHECKING:
    from app.models.fetcher import ModelFetcher


@dataclass(frozen=True, slots=True)
class Service:
    """`ready` is set once the configured models are loaded; `broken` once this process cannot
    recover.
    """

    settings: Settings
    device: str
    compute_type: str
    catalog: Catalog
    store: ModelStore
    fetcher: ModelFetcher
    transcriber: Transcriber
    decode_pool: DecodePool
    admission: Admission
    temp: PrivateDirectory
    threads: Threads
    calls: Calls
    subtitle_style: SubtitleStyle
    ready: threading.Event
    broken: threading.Event
    metrics: Metrics
    tracing: Tracing

    def stop_admitting(self) -> None:
        """Make /ready answer 503 and refuse new requests, so that clients go to another replica."""
        self.ready.clear()
        self.admission.close()
        self.calls.joining.close()

    def report(self, record: RequestRecord) -> None:
        """Count and log a finished request."""
        self.metrics.request(record)
        log_request(record)
