"""The object graph: built, and closed in reverse order."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.access.rate_limits import RateLimits
from app.audio.decode_pool import DecodeLimits, DecodePool
from app.config.answers import AnswerSettings
from app.config.environment import prepare_environment
from app.config.settings import Settings
from app.formats.subtitles import SubtitleStyle
from app.models.catalog import Catalog
from app.models.loader import check_local_models
from app.models.recognizers.engine import RecognizerEngine
from app.models.recognizers.registry import ENGINES, Recognizers
from app.observability import logs
from app.observability.gauges import GpuMemory
from app.observability.logs import quiet_libraries
from app.observability.metrics import Metrics
from app.observability.tracing_setup import build_tracing
from app.pipeline.transcribing import Transcribing
from app.service.admission import Admission
from app.service.build_models import build_catalog, build_fetcher, build_store, build_transcriber
from app.service.calls import CallLimits, Calls
from app.service.joining import MAX_LINGERING, Joining, JoiningLimits
from app.service.models import LocalModels, Models
from app.service.peers import ALONE, Peers
from app.service.readings import service_facts, take_reading
from app.service.service import Service
from app.service.threads import Threads
from app.service.upload_places import UploadPlaces
from app.storage.tempdir import PrivateDirectory, check_writable

CLOSE_TIMEOUT_S = 5.0  # of servers; on a busy machine, memory takes seconds to free
UPLOAD_WINDOWS = 12  # within UPLOAD_IDLE_TIMEOUT_SECONDS, to see which uploads are slow


@dataclass(frozen=True, slots=True)
class Hosting:
    """Where the models run. `connect`: what reaches them, given the metrics and an event to set
    once they are lost to this process.
    """

    device: str
    compute_type: str
    connect: Callable[[Metrics, threading.Event], tuple[Models, Transcribing]]
    gpus: Callable[[], tuple[GpuMemory, ...]] = tuple
    elsewhere: bool = False  # what is loaded counts where it is
    peers: Peers = ALONE


def build_service(settings: Settings, engines: Sequence[RecognizerEngine] = ENGINES) -> Service:
    """The object graph. Imports the model libraries; loads no model yet.

    Raises:
        ConfigurationError: settings that cannot work on this machine.
    """
    recognizers = Recognizers(engines)
    check_writable(settings.cache_dir, "CACHE_DIR")
    check_local_models(settings, recognizers)
    temp = build_temp(settings)
    prepare_environment(settings)
    # Here and not above: the libraries read the environment when they are imported.
    from app.models import devices
    from app.models.alignment.aligner import align_languages

    catalog = build_catalog(settings, recognizers, align_languages())
    quiet_libraries()  # once imported: some set their own level and handlers then
    chosen = devices.choose_devices(settings)

    def connect(metrics: Metrics, broken: threading.Event) -> tuple[Models, Transcribing]:
        fetcher = build_fetcher(settings, recognizers)
        store = build_store(settings, chosen, recognizers, fetcher, metrics, broken)
        models = LocalModels(store, catalog, fetcher, settings.model_call_timeout_s)
        return models, build_transcriber(settings, store, catalog)

    return _assemble(
        settings,
        temp,
        catalog,
        Hosting(chosen.device, chosen.compute_type, connect, lambda: devices.gpu_memory(chosen)),
    )


def build_front(settings: Settings, hosting: Hosting) -> Service:
    """The object graph of a process whose models are elsewhere. Imports no PyTorch.

    Raises:
        ConfigurationError: settings that cannot work on this machine.
    """
    temp = build_temp(settings)
    prepare_environment(settings)
    catalog = build_catalog(settings, Recognizers())
    quiet_libraries()
    return _assemble(settings, temp, catalog, hosting)


def _assemble(
    settings: Settings, temp: PrivateDirectory, catalog: Catalog, hosting: Hosting
) -> Service:
    ready, broken = threading.Event(), threading.Event()
    uploads = UploadPlaces(
        settings.max_concurrent_uploads,
        settings.upload_min_bytes_per_s,
        settings.upload_idle_timeout_s / UPLOAD_WINDOWS,
    )
    admission = Admission(settings.max_queue_size, settings.max_queue_audio_s, uploads)
    metrics = Metrics(
        service_facts(settings, hosting.device, hosting.compute_type),
        lambda: take_reading(
            ready, admission, () if hosting.elsewhere else models.loaded(), hosting.gpus()
        ),
    )
    models, transcriber = hosting.connect(metrics, broken)
    decode_pool = build_decode_pool(settings, temp)
    rate_limits = RateLimits(
        settings.rate_limit_requests_per_minute,
        round(settings.rate_limit_audio_minutes_per_hour * 60),
        settings.rate_limit_storage_url.get_secret_value(),
    )
    call_limits = CallLimits(
        settings.request_timeout_s, settings.max_duration_s, settings.log_transcripts
    )
    return Service(
        settings=settings,
        device=hosting.device,
        compute_type=hosting.compute_type,
        catalog=catalog,
        models=models,
        transcriber=transcriber,
        decode_pool=decode_pool,
        calls=Calls(
            transcriber, decode_pool, admission, rate_limits, call_limits, build_joining(settings)
        ),
        admission=admission,
        temp=temp,
        # these threads mostly wait for models: one for each admitted request
        threads=Threads(settings.max_queue_size, thread_name_prefix="request"),
        subtitle_style=subtitle_style(settings),
        ready=ready,
        broken=broken,
        metrics=metrics,
        tracing=build_tracing(),
        peers=hosting.peers,
    )


def build_joining(settings: Settings) -> Joining:
    threads = Threads(settings.max_queue_size + MAX_LINGERING, thread_name_prefix="compute")
    return Joining(threads, JoiningLimits(linger_s=settings.join_linger_s))


def build_temp(settings: Settings) -> PrivateDirectory:
    min_free_mb = settings.temp_min_free_mb
    return PrivateDirectory(settings.temp_dir, None if min_free_mb is None else min_free_mb << 20)


def build_decode_pool(settings: Settings, temp: PrivateDirectory) -> DecodePool:
    return DecodePool(
        temp.path,
        settings.decode_workers,
        DecodeLimits(
            settings.decode_timeout_s,
            settings.decode_memory_mb,
            settings.max_streams,
            temp.min_free_bytes,
        ),
        functools.partial(logs.configure, settings.log_format, settings.log_level),
    )


def subtitle_style(settings: AnswerSettings) -> SubtitleStyle:
    """The look of subtitles if a request does not say."""
    return SubtitleStyle(
        settings.subtitle_max_line_width,
        settings.subtitle_max_line_count,
        settings.subtitle_highlight_words,
        readable=settings.subtitle_style == "readable",
    )


def close_service(service: Service, within_s: float | None = None) -> None:
    """In reverse order of building. Does not wait for requests that still run.

    `within_s`: do not wait longer for calls of models that still run; whoever gives it must not
    leave the interpreter by its usual way, which aborts if a thread is inside a library.
    """
    service.stop_admitting()
    service.decode_pool.close()
    closing = threading.Thread(target=service.models.close, name="close", daemon=True)
    closing.start()
    closing.join(within_s)
    service.threads.shutdown(wait=False, cancel_futures=True)
    service.calls.joining.shut_down()
    service.transcriber.close()
    service.temp.close()
    service.tracing.close()
