"""Service: the object graph that the endpoints work with."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, ParamSpec, TypeVar

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

P = ParamSpec("P")
T = TypeVar("T")


class Threads(ThreadPoolExecutor):
    """Whose failures keep nothing but their text.

    The traceback of an exception holds the variables of all frames that it came through, a mapped
    recording of hours among them, and is part of cycles that nobody collects for a long time.
    """

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        return super().submit(_forgetful(function), *args, **kwargs)


def _forgetful(function: Callable[P, T]) -> Callable[P, T]:
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            reason: BaseException | None = error
            while reason is not None:
                traceback.clear_frames(reason.__traceback__)
                reason = reason.__cause__ or reason.__context__
            raise

    return call


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
    decoding: DecodePool
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
