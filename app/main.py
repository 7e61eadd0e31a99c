"""Builds, wires, starts and stops everything."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from app import __version__, logs
from app.admission import Admission
from app.api import asr, errors, headers, keys, openai, ops, rate_limits
from app.api.observation import ObservationMiddleware
from app.api.request_id import RequestIdMiddleware
from app.api.unread_body import UnreadBodyMiddleware
from app.audio.decode_pool import DecodeLimits, DecodePool
from app.batching import Batcher, Recovery
from app.errors import ConfigurationError, ModelUnavailable, ServiceError, UnknownModel
from app.formats import SubtitleStyle
from app.languages import parse_language
from app.logs import quiet_libraries
from app.metrics import Facts, GpuMemory, Metrics, Reading, memory_limit_bytes
from app.models.catalog import Catalog, ModelKey
from app.optional import WARNING_KINDS
from app.service import Service
from app.settings import DEMO_DIR, Settings, prepare_environment
from app.store import ModelStore, StoreObserver
from app.tempdir import PrivateDirectory, check_writable
from app.tracing import build_tracing
from app.transcriber import Transcriber, TranscriberOptions
from app.turns import FairTurns, FreeForAll

if TYPE_CHECKING:
    from app.models.devices import Devices

log = logging.getLogger(__name__)

PRELOAD_RETRY_S = 30.0
CLOSE_TIMEOUT_S = 2.0

DESCRIPTION = """\
Transcribes any audio or video file in the answer to one request: aligned words, speakers, and JSON,
text, SRT, VTT or TSV. Speaks the dialects of whisper-asr-webservice and of the WhisperX ASR API
services; every query parameter may also be sent as a form field.
"""


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
    from app.models import aligner, devices, recognizer

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
    store = ModelStore(
        model_loader(settings, chosen, recovery, metrics),
        settings.max_loaded_models,
        settings.model_memory_mb << 20,
        settings.model_idle_timeout_s,
        observer=StoreObserver(
            loaded=lambda key, seconds: metrics.model_loaded(key.kind, seconds),
            failed=lambda key: metrics.model_failed(key.kind),
            unloaded=lambda key: metrics.model_unloaded(key.kind),
        ),
    )
    # Threads wait for models most of their time: one for each admitted request, one beside it.
    threads = ThreadPoolExecutor(settings.max_queue_size, thread_name_prefix="request")
    beside = ThreadPoolExecutor(settings.max_queue_size, thread_name_prefix="diarize")
    transcriber = Transcriber(
        store,
        catalog,
        beside,
        TranscriberOptions(
            chunk_s=settings.chunk_s,
            vad_onset=settings.vad_onset,
            vad_offset=settings.vad_offset,
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
        transcriber=transcriber,
        decoding=DecodePool(
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
        # a local folder by its own name: whoever reads metrics sees no path
        loaded=tuple((key.kind, PurePath(key.name).name) for key in store.loaded()),
        gpus=gpus,
    )


def check_local_models(settings: Settings) -> None:
    """Raises ConfigurationError where a model is named by a folder that is not there."""
    recognizers = [("ASR_MODEL or PRELOAD_MODEL", settings.asr_model)]
    recognizers += [("PRELOAD_MODEL", settings.preload_model)]
    recognizers += [("ALLOWED_MODELS", name) for name in settings.allowed_models]
    others = [("ALIGN_MODELS", name) for name in settings.align_models.values()]
    others += [("DIARIZATION_MODEL", settings.diarization_model)]
    for setting, name in recognizers + others:
        if name.startswith(("/", "./", "../")) and not Path(name).exists():
            raise ConfigurationError(f"{setting}: {name} is not there.")
    for setting, name in recognizers:
        if name.startswith(("/", "./", "../")) and not (Path(name) / "model.bin").is_file():
            raise ConfigurationError(
                f"{setting}: {name} has no model.bin; it must be a folder in CTranslate2 format."
            )


def model_loader(
    settings: Settings, chosen: Devices, recovery: Recovery, metrics: Metrics
) -> Callable[[ModelKey], Batcher[Any]]:
    """How each kind of model is loaded: names, tokens and the cache are the same for all."""
    from app.models.aligner import Wav2Vec2Aligner
    from app.models.diarizer import PyannoteDiarizer
    from app.models.recognizer import WhisperRecognizer
    from app.models.vad import PyannoteVad
    from app.models.windows import choose_batches

    sizes = settings.segmentation_batch_size, settings.embedding_batch_size
    cpu = FairTurns()
    device_of = {
        "recognizer": chosen.device,
        "aligner": chosen.align,
        "diarizer": chosen.diarize,
        "vad": chosen.align,
    }
    token = settings.hf_token.get_secret_value() or None
    # While transformers builds a model, every PyTorch model of the process loses its weights.
    # Source: init_empty_weights in transformers/integrations/accelerate.py
    building = threading.Lock()

    def load(key: ModelKey) -> Batcher[Any]:
        context = contextvars.copy_context()  # of the request that the model is loaded for

        def create() -> Any:
            if key.kind == "recognizer":
                return WhisperRecognizer(
                    key.source,
                    chosen.device,
                    chosen.compute_type,
                    chosen.cpu_threads,
                    settings.batch_size,
                    settings.cache_dir,
                    token,
                )
            with building:
                return create_torch_model()

        def create_torch_model() -> Any:
            if key.kind == "aligner":
                return Wav2Vec2Aligner(
                    key.language,
                    key.source,
                    chosen.align,
                    settings.align_batch_size,
                    settings.cache_dir,
                )
            if key.kind == "diarizer":
                return PyannoteDiarizer(
                    key.source,
                    chosen.diarize,
                    choose_batches(chosen.diarize, *sizes),
                    settings.cache_dir,
                    token,
                    settings.diarizer_params(),
                    settings.diarization_part_s,
                )
            return PyannoteVad(
                chosen.align,
                settings.vad_onset,
                settings.vad_offset,
                choose_batches(chosen.align, *sizes).segmentation,
            )

        def create_quietly() -> Any:
            try:
                return context.run(create)
            finally:
                quiet_libraries()  # some are imported only now

        turns = cpu if device_of[key.kind] == "cpu" else FreeForAll()
        observe = functools.partial(metrics.batch, key.kind)
        name = f"{key.kind} {key.name}"
        # what takes longest in all and runs beside the rest must not be what all wait for
        ahead = key.kind == "diarizer"
        return Batcher(name, create_quietly, recovery, turns, observe, ahead)

    return load


def create_app(service: Service) -> FastAPI:
    """The app that serves a service, and closes it when it ends."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        stopping = threading.Event()
        # a daemon: a load or download that is under way at the end is nobody's any more
        warming = threading.Thread(
            target=_warm_up, args=(service, stopping), name="warm-up", daemon=True
        )
        warming.start()
        try:
            yield
        finally:
            stopping.set()
            close_service(service)

    app: FastAPI = FastAPIOffline(
        title="WhisperX ASR service",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        redoc_url=None,  # one page is enough, and this one loads its logo from elsewhere
        root_path=service.settings.root_path,
        license_info={"name": "MIT"},
    )
    app.add_middleware(UnreadBodyMiddleware)
    errors.install(app)
    rate_limits.install(app, service.settings)
    keys.install(app, service.settings)  # each of these stands around those above it
    headers.install(app, service.settings)
    app.add_middleware(ObservationMiddleware, service=service)
    app.add_middleware(RequestIdMiddleware)
    app.include_router(asr.build_router(service))
    app.include_router(openai.build_router(service))
    app.include_router(ops.build_router(service))
    return app


def _warm_up(service: Service, stopping: threading.Event) -> None:
    """Load what PRELOAD_MODEL names; /ready says no until it is there."""
    name = service.settings.preload_model
    while not stopping.is_set():
        try:
            service.decoding.warm_up()
            if name:
                preload(service, name)
            break
        # Whatever it is (no process to be had, no memory), it must not leave /ready at no for good.
        except Exception as error:
            if stopping.is_set() or isinstance(error, UnknownModel):
                return
            known = isinstance(error, ServiceError)  # and in the log, from where it came up
            log.error(
                "preloading %s failed, next try in %.0f s: %s",
                name,
                PRELOAD_RETRY_S,
                error,
                exc_info=None if known else error,
            )
            stopping.wait(PRELOAD_RETRY_S)
    if not stopping.is_set():
        service.ready.set()


def preload(service: Service, name: str) -> None:
    """Load a model with speech detection; the diarizer too, where it is to be had."""
    model = service.catalog.resolve(name)
    for key in (service.catalog.vad(), service.catalog.recognizer(model)):
        with service.store.lease(key):
            pass
    with contextlib.suppress(ServiceError), service.store.lease(service.catalog.diarizer(model)):
        pass


def download_models(
    settings: Settings, models: Sequence[str], languages: Sequence[str], diarization: bool
) -> Iterator[str]:
    """Fetch models into the cache through the code that loads them; a line for each.

    Raises:
        ServiceError: one of them is not to be had.
    """
    service = build_service(settings)
    from app.models import recognizer

    token = settings.hf_token.get_secret_value() or None
    catalog = service.catalog
    keys = []
    try:
        for name in models:
            key = catalog.recognizer(catalog.resolve(name))
            with download_errors(key):
                recognizer.download(key.source, settings.cache_dir, token)
            yield f"{key.name}: in {settings.cache_dir}"
        for language in languages:
            aligner = catalog.aligner(catalog.default_model, parse_language(language) or "")
            if aligner is None:
                raise UnknownModel(f"There is no alignment model for {language}.")
            keys.append(aligner)
        if diarization:
            keys.append(catalog.diarizer(catalog.default_model))
        for key in keys:
            with service.store.lease(key):
                yield f"{key.kind} {key.name}: in {settings.cache_dir}"
    finally:
        close_service(service)


@contextlib.contextmanager
def download_errors(key: ModelKey) -> Iterator[None]:
    try:
        yield
    # Libraries raise anything here; the store says the same of models that it loads.
    except Exception as error:
        raise ModelUnavailable(f"{key.name} cannot be downloaded: {error}") from error


def close_service(service: Service) -> None:
    """In reverse order of building. What still runs is given up."""
    service.stop_admitting()
    service.decoding.close()
    # a model's thread ends when its call returns; that is not waited for for ever
    closing = threading.Thread(target=service.store.close, name="close", daemon=True)
    closing.start()
    closing.join(CLOSE_TIMEOUT_S)
    service.threads.shutdown(wait=False, cancel_futures=True)
    service.transcriber.close()
    service.temp.close()
    service.tracing.close()
