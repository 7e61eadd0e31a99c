"""The part of the object graph that has models: catalog, downloads, store and transcriber."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from app.config.settings import DEMO_DIR, Settings
from app.domain.errors import ConfigurationError, UnknownModel
from app.engine.recovery import Recovery
from app.engine.store import LoadWaits, ModelStore, StoreObserver
from app.models.catalog import Catalog, KnownModels
from app.models.loader import ModelLoader
from app.models.recognizers.registry import Recognizers
from app.observability.metrics import Metrics
from app.pipeline.chunking import ChunkingOptions
from app.pipeline.transcriber import Transcriber, TranscriberOptions
from app.service.threads import Threads

if TYPE_CHECKING:
    from app.models.devices import Devices
    from app.models.fetcher import ModelFetcher


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
