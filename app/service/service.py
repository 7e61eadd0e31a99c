"""Service: the object graph that the endpoints work with."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from app.audio.decode_pool import DecodePool
from app.config.settings import Settings
from app.formats.subtitles import SubtitleStyle
from app.models.catalog import Catalog
from app.observability.logs import log_request
from app.observability.metrics import Metrics
from app.observability.record import RequestRecord
from app.observability.tracing import Tracing
from app.pipeline.transcribing import Transcribing
from app.service.admission import Admission
from app.service.calls import Calls
from app.service.models import Models
from app.service.peers import ALONE, Peers
from app.service.threads import Threads
from app.storage.tempdir import PrivateDirectory


@dataclass(frozen=True, slots=True)
class Service:
    """`ready` is set once the configured models are loaded; `broken` once this process cannot
    recover. `peers`: other processes of the same service.
    """

    settings: Settings
    device: str
    compute_type: str
    catalog: Catalog
    models: Models
    transcriber: Transcribing
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
    peers: Peers = ALONE

    def stop_admitting(self) -> None:
        """Make /ready answer 503 and refuse new requests, so that clients go to another replica."""
        self.ready.clear()
        self.admission.close()
        self.calls.joining.close()

    def report(self, record: RequestRecord) -> None:
        """Count and log a finished request."""
        self.metrics.request(record)
        log_request(record)
