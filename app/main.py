"""Builds, wires, starts and stops everything."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from app import __version__
from app.admission import Admission
from app.api import asr, errors, ops
from app.api.request_id import RequestIdMiddleware
from app.audio.decode import DecodePool
from app.batching import Batcher, Recovery
from app.errors import ConfigurationError, ModelUnavailable, ServiceError, UnknownModel
from app.formats import SubtitleStyle
from app.languages import parse_language
from app.models.catalog import Catalog, ModelKey
from app.service import Service
from app.settings import DEMO_DIR, Settings, prepare_environment
from app.store import ModelStore
from app.tempdir import PrivateDirectory, check_writable
from app.transcriber import Transcriber, TranscriberOptions

if TYPE_CHECKING:
    from app.models.devices import Devices

log = logging.getLogger(__name__)

PRELOAD_RETRY_S = 30.0

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
    temp = PrivateDirectory(settings.temp_dir)
    prepare_environment(settings)
    # Here and not above: the libraries read the environment when they are imported.
    from app.models import aligner, devices, recognizer

    quiet_libraries()  # once imported: some set their own log level then
    chosen = devices.choose_devices(settings)
    ready = threading.Event()
    catalog = Catalog(
        known=recognizer.known_models(),
        demo_dir=DEMO_DIR,
        default_model=settings.asr_model,
        allowed=settings.allowed_models,
        align_models=settings.align_models,
        align_languages=aligner.align_languages(),
        diarization_model=settings.diarization_model,
    )
    if settings.preload_model:
        try:
            catalog.resolve(settings.preload_model)
        except UnknownModel as error:
            raise ConfigurationError(f"PRELOAD_MODEL: {error}") from None

    def make_room() -> None:
        store.evict_idle()
        devices.free_memory()

    def give_up() -> None:
        ready.clear()
        os.kill(os.getpid(), signal.SIGTERM)

    recovery = Recovery(devices.is_out_of_memory, make_room, devices.is_lost, give_up)
    store = ModelStore(
        model_loader(settings, chosen, recovery),
        settings.max_loaded_models,
        settings.model_memory_mb << 20,
        settings.model_idle_timeout_s,
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
            temp.path, settings.decode_workers, settings.decode_timeout_s, settings.decode_memory_mb
        ),
        admission=Admission(settings.max_queue_size, settings.max_queue_audio_s),
        temp=temp,
        threads=threads,
        subtitle_style=SubtitleStyle(
            settings.subtitle_max_line_width,
            settings.subtitle_max_line_count,
            settings.subtitle_highlight_words,
        ),
        ready=ready,
    )


def model_loader(
    settings: Settings, chosen: Devices, recovery: Recovery
) -> Callable[[ModelKey], Batcher[Any]]:
    """How each kind of model is loaded: names, tokens and the cache are the same for all."""
    from app.models.aligner import Wav2Vec2Aligner
    from app.models.diarizer import PyannoteDiarizer
    from app.models.recognizer import WhisperRecognizer
    from app.models.vad import PyannoteVad

    token = settings.hf_token.get_secret_value() or None
    # While transformers builds a model, every PyTorch model of the process loses its weights.
    # Source: init_empty_weights in transformers/integrations/accelerate.py
    building = threading.Lock()

    def load(key: ModelKey) -> Batcher[Any]:
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
                    settings.segmentation_batch_size,
                    settings.cache_dir,
                    token,
                    settings.diarizer_params(),
                    settings.diarization_part_s,
                )
            return PyannoteVad(
                chosen.align,
                settings.vad_onset,
                settings.vad_offset,
                settings.segmentation_batch_size,
            )

        return Batcher(f"{key.kind} {key.name}", create, recovery)

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
    app.add_middleware(RequestIdMiddleware)
    errors.install(app)
    app.include_router(asr.build_router(service))
    app.include_router(ops.build_router(service))
    return app


def _warm_up(service: Service, stopping: threading.Event) -> None:
    """Load what PRELOAD_MODEL names; /ready says no until it is there."""
    service.decoding.warm_up()
    name = service.settings.preload_model
    while name and not stopping.is_set():
        try:
            preload(service, name)
            break
        except ServiceError as error:
            if stopping.is_set() or isinstance(error, UnknownModel):
                return
            log.error("preloading %s failed, next try in %.0f s: %s", name, PRELOAD_RETRY_S, error)
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
    service.ready.clear()
    service.admission.close()
    service.decoding.close()
    service.store.close()
    service.threads.shutdown(wait=False, cancel_futures=True)
    service.transcriber.close()
    service.temp.close()


def quiet_libraries() -> None:
    """Silence warnings that no user can act on."""
    for text in (
        ".*torchcodec.*",
        ".*TensorFloat-32.*",
        ".*upgraded your loaded checkpoint.*",
        ".*degrees of freedom.*",
        ".*Mismatch between frames.*",
    ):
        warnings.filterwarnings("ignore", message=f"(?s){text}")
    for name in ("lightning", "pytorch_lightning", "lightning.pytorch", "speechbrain", "whisperx"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("httpx").setLevel(logging.WARNING)
