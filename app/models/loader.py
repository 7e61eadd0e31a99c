"""How models come into memory: checked at the start, loaded on demand or ahead, downloaded."""

from __future__ import annotations

import contextvars
import functools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.config.settings import Settings
from app.domain.errors import (
    ConfigurationError,
    ModelMissing,
    ModelUnavailable,
)
from app.engine.batching import Batcher, Recovery
from app.engine.model import ModelKey
from app.engine.slots import FairSlots, FreeForAll
from app.observability.logs import quiet_libraries
from app.observability.metrics import Metrics

if TYPE_CHECKING:
    from app.models.devices import Devices
    from app.models.fetcher import ModelFetcher


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
    cpu = FairSlots()
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

        slots = cpu if device_of[key.kind] == "cpu" else FreeForAll()
        observe = functools.partial(metrics.batch, key.kind)
        name = f"{key.kind} {key.name}"
        # what takes longest in all and runs beside the rest must not be what all wait for
        ahead = key.kind == "diarizer"
        return Batcher(name, create_quietly, recovery, slots, observe, ahead)

    return load
