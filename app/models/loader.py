"""How models come into memory: checked at the start, loaded on demand or ahead, downloaded."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.config.settings import Settings
from app.domain.errors import (
    ConfigurationError,
    ModelMissing,
    ModelUnavailable,
    ServiceError,
    UnknownModel,
)
from app.domain.languages import parse_language
from app.engine.batching import Batcher, Recovery
from app.engine.turns import FairTurns, FreeForAll
from app.models.catalog import ModelKey
from app.observability.logs import quiet_libraries
from app.observability.metrics import Metrics
from app.service.service import Service

if TYPE_CHECKING:
    from app.models.devices import Devices
    from app.models.fetcher import ModelFetcher

log = logging.getLogger(__name__)

PRELOAD_RETRY_S = 30.0


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
    settings: Settings,
    chosen: Devices,
    recovery: Recovery,
    metrics: Metrics,
    fetcher: ModelFetcher,
) -> Callable[[ModelKey], Batcher[Any]]:
    """How each kind of model is loaded: fetched, then built from what is on the disk."""
    from app.models.alignment.aligner import Wav2Vec2Aligner
    from app.models.hub import HubError, OfflineError
    from app.models.pyannote.diarizer import PyannoteDiarizer
    from app.models.pyannote.vad import PyannoteVad
    from app.models.pyannote.windows import choose_batches
    from app.models.recognizers.whisper import WhisperRecognizer

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
        try:
            source = fetcher.fetch(key)
        except HubError as error:
            failure = ModelUnavailable if isinstance(error, OfflineError) else ModelMissing
            raise failure(f"The {key.kind} {key.short_name} is missing: {error.reason}") from error
        context = contextvars.copy_context()  # of the request that the model is loaded for

        def create() -> Any:
            if key.kind == "recognizer":
                return WhisperRecognizer(
                    source,
                    chosen.device,
                    chosen.compute_type,
                    chosen.cpu_threads,
                    settings.batch_size,
                )
            with building:
                return create_torch_model()

        def create_torch_model() -> Any:
            if key.kind == "aligner":
                return Wav2Vec2Aligner(
                    key.language,
                    source,
                    chosen.align,
                    settings.align_batch_size,
                    settings.cache_dir,
                )
            if key.kind == "diarizer":
                return PyannoteDiarizer(
                    source,
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


def warm_up(service: Service, stopping: threading.Event) -> None:
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
            told = isinstance(error, ModelUnavailable)  # by the store
            known = isinstance(error, ServiceError)  # and in the log, from where it came up
            log.log(
                logging.INFO if told else logging.ERROR,
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
        with service.store.lease(key, try_at_once=True):
            pass
    with contextlib.suppress(ServiceError), service.store.lease(service.catalog.diarizer(model)):
        pass


def download_models(
    service: Service, models: Sequence[str], languages: Sequence[str], diarization: bool
) -> Iterator[str]:
    """Fetch models into the cache, or what is new of them; a line for each. All but recognizers
    are loaded, too, to see whether they can be.

    Raises:
        ServiceError: one of them is not to be had.
    """
    settings, catalog, fetcher = service.settings, service.catalog, service.fetcher
    keys = []
    for name in models:
        key = catalog.recognizer(catalog.resolve(name))
        with download_errors(key):
            fetcher.fetch(key, refresh=True)
        yield f"{key.name}: in {settings.cache_dir}"
    for language in languages:
        aligner = catalog.aligner(catalog.default_model, parse_language(language) or "")
        if aligner is None:
            raise UnknownModel(f"There is no alignment model for {language}.")
        keys.append(aligner)
    if diarization:
        keys.append(catalog.diarizer(catalog.default_model))
    for key in keys:
        with download_errors(key):
            fetcher.fetch(key, refresh=True)
        with service.store.lease(key, try_at_once=True):
            yield f"{key.kind} {key.name}: in {settings.cache_dir}"


@contextlib.contextmanager
def download_errors(key: ModelKey) -> Iterator[None]:
    try:
        yield
    except ServiceError:
        raise
    # Libraries raise anything here; the store says the same of models that it loads.
    except Exception as error:
        raise ModelUnavailable(f"{key.name} cannot be downloaded: {error}") from error
