"""The object graph: built, and closed in reverse order."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app import __version__
from app.access.rate_limits import RateLimits
from app.audio.decode_pool import DecodeLimits, DecodePool
from app.config.answers import AnswerSettings
from app.config.environment import prepare_environment
from app.config.limits import LimitSettings
from app.config.settings import DEMO_DIR, Settings
from app.domain.errors import ConfigurationError, UnknownModel
from app.domain.warnings import TranscriptWarning
from app.engine.model import ModelKey, ModelKind
from app.engine.recovery import Recovery
from app.engine.store import LoadWaits, ModelStore, StoreObserver
from app.formats.subtitles import SubtitleStyle
from app.models.catalog import Catalog, KnownModels
from app.models.loader import ModelLoader, check_local_models
from app.models.recognizers.engine import RecognizerEngine
from app.models.recognizers.registry import ENGINES, Recognizers
from app.observability import logs
from app.observability.gauges import Facts, GpuMemory, Reading, memory_limit_bytes
from app.observability.logs import quiet_libraries
from app.observability.metrics import Metrics
from app.observability.tracing_setup import build_tracing
from app.pipeline.chunking import ChunkingOptions
from app.pipeline.transcriber import Transcriber, TranscriberOptions
from app.pipeline.transcribing import Transcribing
from app.service.admission import Admission
from app.service.calls import CallLimits, Calls
from app.service.joining import MAX_LINGERING, Joining, JoiningLimits
from app.service.models import LocalModels, Models
from app.service.peers import ALONE, Peers
from app.service.service import Service
from app.service.threads import Threads
from app.service.upload_places import UploadPlaces
from app.storage.tempdir import PrivateDirectory, check_writable

if TYPE_CHECKING:
    from app.models.devices import Devices
    from app.models.fetcher import ModelFetcher

CLOSE_TIMEOUT_S = 5.0  # on a busy machine, memory takes seconds to free
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


def build_catalog(
    settings: Settings, recognizers: Recognizers, align_languages: frozenset[str] = frozenset()
) -> Catalog:
    """Raises ConfigurationError if a setting names a model that does not exist."""
    catalog = Catalog(
        KnownModels(recognizers.model_names(), recognizers.aliases, align_languages),
        DEMO_DIR,
        settings.asr_model,
        settings.allowed_models,
        settings.align_models,
        settings.diarization_model,
    )
    catalog.add_openai_names(settings.models_of_openai_names())
    if settings.preload_model:
        try:
            catalog.resolve(settings.preload_model)
        except UnknownModel as error:
            raise ConfigurationError(f"PRELOAD_MODEL: {error}") from None
    return catalog


def build_fetcher(settings: Settings, recognizers: Recognizers) -> ModelFetcher:
    from app.models.fetcher import ModelFetcher  # pyannote.audio comes along: once it is quiet
    from app.models.hub import Hub

    return ModelFetcher(
        Hub(settings.hub_timeout_s),
        settings.cache_dir,
        settings.hf_token.get_secret_value() or None,
        settings.torchaudio_url,
        recognizers,
    )


def build_store(
    settings: Settings,
    chosen: Devices,
    recognizers: Recognizers,
    fetcher: ModelFetcher,
    metrics: Metrics,
    broken: threading.Event,
) -> ModelStore:
    """`broken` is set once the device is lost."""
    from app.models import devices
    from app.models.builders import ModelBuilders

    def make_room() -> None:
        store.evict_idle()
        devices.free_memory()

    recovery = Recovery(devices.is_out_of_memory, make_room, devices.is_lost, broken.set)
    store = ModelStore(
        ModelLoader(fetcher, ModelBuilders(settings, chosen, recognizers), recovery, metrics),
        settings.max_loaded_models,
        settings.model_memory_mb << 20,
        settings.model_idle_timeout_s,
        LoadWaits(settings.model_load_wait_s, settings.hub_timeout_s),
        observer=StoreObserver(
            loaded=lambda key, seconds: metrics.model_loaded(key.kind, seconds),
            failed=lambda key: metrics.model_failed(key.kind),
            unloaded=lambda key: metrics.model_unloaded(key.kind),
        ),
    )
    return store


def build_transcriber(settings: Settings, store: ModelStore, catalog: Catalog) -> Transcriber:
    return Transcriber(
        store,
        catalog,
        Threads(settings.max_queue_size, thread_name_prefix="diarize"),
        TranscriberOptions(
            chunking=ChunkingOptions(settings.vad_onset, settings.vad_offset, settings.chunk_s),
            word_aligner=settings.word_aligner,
            beam_size=settings.beam_size,
            assign_nearest_speaker=settings.assign_nearest_speaker,
            known_speaker_similarity=settings.known_speaker_similarity,
            strict_stages=settings.strict_stages,
        ),
    )


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


def service_facts(settings: LimitSettings, device: str, compute_type: str) -> Facts:
    return Facts(
        version=__version__,
        device=device,
        compute_type=compute_type,
        max_requests=settings.max_queue_size,
        max_audio_s=settings.max_queue_audio_s,
        memory_limit_bytes=memory_limit_bytes(),
        warning_kinds=tuple(dict.fromkeys(warning.kind for warning in TranscriptWarning)),
        model_kinds=tuple(ModelKind),
    )


def subtitle_style(settings: AnswerSettings) -> SubtitleStyle:
    """The look of subtitles if a request does not say."""
    return SubtitleStyle(
        settings.subtitle_max_line_width,
        settings.subtitle_max_line_count,
        settings.subtitle_highlight_words,
        readable=settings.subtitle_style == "readable",
    )


def take_reading(
    ready: threading.Event,
    admission: Admission,
    loaded: Sequence[ModelKey],
    gpus: tuple[GpuMemory, ...],
) -> Reading:
    """What a scrape of /metrics shows at this moment."""
    entries = [entry for entry in admission.entries() if entry.has_place]
    num_waiting = sum(entry.state == "waiting" for entry in entries)
    return Reading(
        ready=ready.is_set(),
        num_waiting=num_waiting,
        num_running=len(entries) - num_waiting,
        audio_s=admission.audio_s,
        loaded=tuple((key.kind, key.short_name) for key in loaded),
        gpus=gpus,
    )


def close_service(service: Service) -> None:
    """In reverse order of building. Does not wait for requests that still run."""
    service.stop_admitting()
    service.decode_pool.close()
    # a model's thread ends when its call returns, which may take too long to wait for
    closing = threading.Thread(target=service.models.close, name="close", daemon=True)
    closing.start()
    closing.join(CLOSE_TIMEOUT_S)
    service.threads.shutdown(wait=False, cancel_futures=True)
    service.calls.joining.shut_down()
    service.transcriber.close()
    service.temp.close()
    service.tracing.close()
