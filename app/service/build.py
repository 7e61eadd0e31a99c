"""The object graph: built, and closed in reverse order."""

from __future__ import annotations

import functools
import logging
import threading
from typing import TYPE_CHECKING

from app import __version__
from app.audio.decode_pool import DecodeLimits, DecodePool
from app.config.environment import prepare_environment, trace_exporters
from app.config.settings import DEMO_DIR, Settings
from app.domain.errors import ConfigurationError, UnknownModel
from app.engine.batching import Recovery
from app.engine.store import ModelStore, StoreObserver
from app.formats.subtitles import SubtitleStyle
from app.models.catalog import Catalog
from app.models.loader import check_local_models, model_loader
from app.observability import logs
from app.observability.logs import quiet_libraries
from app.observability.metrics import Facts, GpuMemory, Metrics, Reading, memory_limit_bytes
from app.observability.tracing import Tracing
from app.pipeline.chunking import ChunkingOptions
from app.pipeline.optional_stages import WARNING_KINDS
from app.pipeline.transcriber import Transcriber, TranscriberOptions
from app.service.admission import Admission
from app.service.service import Service
from app.service.threads import Threads
from app.storage.tempdir import PrivateDirectory, check_writable

if TYPE_CHECKING:
    from app.models.devices import Devices
    from app.models.fetcher import ModelFetcher

log = logging.getLogger(__name__)
CLOSE_TIMEOUT_S = 2.0


def build_service(settings: Settings) -> Service:
    """The object graph. Imports the model libraries; loads no model yet.

    Raises:
        ConfigurationError: settings that cannot work on this machine.
    """
    check_writable(settings.cache_dir, "CACHE_DIR")
    check_local_models(settings)
    min_free_mb = settings.temp_min_free_mb
    temp = PrivateDirectory(settings.temp_dir, None if min_free_mb is None else min_free_mb << 20)
    prepare_environment(settings)
    # Here and not above: the libraries read the environment when they are imported.
    from app.models import devices
    from app.models.alignment import aligner
    from app.models.recognizers import whisper as recognizer

    quiet_libraries()  # once imported: some set their own level and handlers then
    chosen = devices.choose_devices(settings)
    ready, broken = threading.Event(), threading.Event()
    catalog = Catalog(
        known=recognizer.known_models(),
        demo_dir=DEMO_DIR,
        default_model=settings.asr_model,
        allowed=settings.allowed_models,
        align_models=settings.align_models,
        align_languages=aligner.align_languages(),
        diarization_model=settings.diarization_model,
    )
    catalog.add_openai_names(settings.openai_models)
    if settings.preload_model:
        try:
            catalog.resolve(settings.preload_model)
        except UnknownModel as error:
            raise ConfigurationError(f"PRELOAD_MODEL: {error}") from None

    def make_room() -> None:
        store.evict_idle()
        devices.free_memory()

    recovery = Recovery(devices.is_out_of_memory, make_room, devices.is_lost, broken.set)
    admission = Admission(
        settings.max_queue_size, settings.max_queue_audio_s, settings.max_concurrent_uploads
    )
    metrics = Metrics(
        service_facts(settings, chosen),
        lambda: take_reading(ready, admission, store, devices.gpu_memory(chosen)),
    )
    fetcher = build_fetcher(settings)
    store = ModelStore(
        model_loader(settings, chosen, recovery, metrics, fetcher),
        settings.max_loaded_models,
        settings.model_memory_mb << 20,
        settings.model_idle_timeout_s,
        settings.hub_timeout_s,
        observer=StoreObserver(
            loaded=lambda key, seconds: metrics.model_loaded(key.kind, seconds),
            failed=lambda key: metrics.model_failed(key.kind),
            unloaded=lambda key: metrics.model_unloaded(key.kind),
        ),
    )
    # Threads wait for models most of their time: one for each admitted request, one beside it.
    threads = Threads(settings.max_queue_size, thread_name_prefix="request")
    beside = Threads(settings.max_queue_size, thread_name_prefix="diarize")
    transcriber = Transcriber(
        store,
        catalog,
        beside,
        TranscriberOptions(
            chunking=ChunkingOptions(settings.vad_onset, settings.vad_offset, settings.chunk_s),
            word_aligner=settings.word_aligner,
            beam_size=settings.beam_size,
            assign_nearest_speaker=settings.assign_nearest_speaker,
            known_speaker_similarity=settings.known_speaker_similarity,
            strict_stages=settings.strict_stages,
        ),
    )
    return Service(
        settings=settings,
        device=chosen.device,
        compute_type=chosen.compute_type,
        catalog=catalog,
        store=store,
        fetcher=fetcher,
        transcriber=transcriber,
        decode_pool=DecodePool(
            temp.path,
            settings.decode_workers,
            DecodeLimits(
                settings.decode_timeout_s,
                settings.decode_memory_mb,
                settings.max_streams,
                temp.min_free_bytes,
            ),
            functools.partial(logs.configure, settings.log_format, settings.log_level),
        ),
        admission=admission,
        temp=temp,
        threads=threads,
        subtitle_style=SubtitleStyle(
            settings.subtitle_max_line_width,
            settings.subtitle_max_line_count,
            settings.subtitle_highlight_words,
        ),
        ready=ready,
        broken=broken,
        metrics=metrics,
        tracing=build_tracing(),
    )


def build_fetcher(settings: Settings) -> ModelFetcher:
    from app.models.fetcher import ModelFetcher  # pyannote.audio comes along: once it is quiet
    from app.models.hub import Hub

    return ModelFetcher(
        Hub(settings.hub_timeout_s),
        settings.cache_dir,
        settings.hf_token.get_secret_value() or None,
        settings.torchaudio_url,
    )


def service_facts(settings: Settings, chosen: Devices) -> Facts:
    return Facts(
        version=__version__,
        device=chosen.device,
        compute_type=chosen.compute_type,
        max_requests=settings.max_queue_size,
        max_audio_s=settings.max_queue_audio_s,
        memory_limit_bytes=memory_limit_bytes(),
        warning_kinds=tuple(WARNING_KINDS.values()),
    )


def take_reading(
    ready: threading.Event, admission: Admission, store: ModelStore, gpus: tuple[GpuMemory, ...]
) -> Reading:
    """What a scrape of /metrics shows of this moment."""
    entries = admission.entries()
    num_waiting = sum(entry.state == "waiting" for entry in entries)
    return Reading(
        ready=ready.is_set(),
        num_waiting=num_waiting,
        num_running=len(entries) - num_waiting,
        audio_s=sum(entry.audio_s or 0.0 for entry in entries),
        loaded=tuple((key.kind, key.short_name) for key in store.loaded()),
        gpus=gpus,
    )


def close_service(service: Service) -> None:
    """In reverse order of building. What still runs is given up."""
    service.stop_admitting()
    service.decode_pool.close()
    # a model's thread ends when its call returns; that is not waited for for ever
    closing = threading.Thread(target=service.store.close, name="close", daemon=True)
    closing.start()
    closing.join(CLOSE_TIMEOUT_S)
    service.threads.shutdown(wait=False, cancel_futures=True)
    service.transcriber.close()
    service.temp.close()
    service.tracing.close()


def build_tracing() -> Tracing:
    """What the usual variables of OpenTelemetry say.

    Raises:
        ConfigurationError: they name an exporter that there is none of.
    """
    exporters = trace_exporters()
    if not exporters:
        return Tracing()
    try:
        # Here and not above: an extra, and nothing of it is imported where tracing is off.
        from app.observability.otel import OpenTelemetryTracing
    except ImportError:
        log.error(
            "no traces: OTEL_* variables ask for them, but OpenTelemetry is not installed "
            "(pip install 'whisperx-asr-service[otel]')"
        )
        return Tracing()
    return OpenTelemetryTracing(exporters)
