"""Service: the object graph that the endpoints work with."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
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
from app.storage.tempdir import PrivateDirectory

if TYPE_CHECKING:
    from app.models.fetcher import ModelFetcher


@dataclass(frozen=True, slots=True)
class Service:
    """`ready` is set once the models that the settings ask for are loaded; `broken` once nothing
    can work any more in this process.
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
    threads: ThreadPoolExecutor
    subtitle_style: SubtitleStyle
    ready: threading.Event
    broken: threading.Event
    metrics: Metrics
    tracing: Tracing

    def stop_admitting(self) -> None:
        """From here on /ready says no, and who asks for something is sent elsewhere."""
        self.ready.clear()
        self.admission.close()

    def report(self, record: RequestRecord) -> None:
        """Count and log what has ended."""
        self.metrics.request(record)
        log_request(record)
