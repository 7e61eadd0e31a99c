"""How models come into memory: local ones are checked at the start, all are loaded on demand."""

from __future__ import annotations

import contextvars
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.config.models import ModelSettings
from app.domain.errors import (
    ConfigurationError,
    ModelMissing,
    ModelUnavailable,
)
from app.engine.batching import Batcher
from app.engine.model import BatchModel, ModelKey, ModelKind
from app.engine.recovery import Recovery
from app.engine.slots import FairSlots, FreeForAll
from app.models.recognizers.registry import Recognizers
from app.observability.logs import quiet_libraries
from app.observability.metrics import Metrics

if TYPE_CHECKING:
    from app.models.builders import ModelBuilders
    from app.models.fetcher import ModelFetcher


def check_local_models(settings: ModelSettings, recognizers: Recognizers) -> None:
    """Raises ConfigurationError if a setting names a folder that is missing or not a model."""
    models = [("ASR_MODEL or PRELOAD_MODEL", settings.asr_model)]
    models += [("PRELOAD_MODEL", settings.preload_model)]
    models += [("ALLOWED_MODELS", name) for name in settings.allowed_models]
    others = [("ALIGN_MODELS", name) for name in settings.align_models.values()]
    others += [("DIARIZATION_MODEL", settings.diarization_model)]
    for setting, name in models + others:
        if _is_local(name) and not Path(name).exists():
            raise ConfigurationError(f"{setting}: {name} is not there.")
    for setting, name in models:
        if _is_local(name) and (reason := recognizers.why_not_a_model(Path(name))):
            raise ConfigurationError(f"{setting}: {name} is not a model: {reason}.")


def _is_local(name: str) -> bool:
    return name.startswith(("/", "./", "../"))


class ModelLoader:
    """Loads a model for the store: fetches its files, then builds it in a thread of its own."""

    def __init__(
        self,
        fetcher: ModelFetcher,
        builders: ModelBuilders,
        recovery: Recovery,
        metrics: Metrics,
    ) -> None:
        self._fetcher = fetcher
        self._builders = builders
        self._recovery = recovery
        self._metrics = metrics
        self._cpu = FairSlots()

    def __call__(self, key: ModelKey) -> Batcher[Any, Any]:
        """Raises ModelUnavailable, or what the libraries raise."""
        source = self._fetch(key)
        # so that what is logged belongs to the request that the model is loaded for
        context = contextvars.copy_context()

        def build() -> BatchModel[Any, Any]:
            try:
                return context.run(self._builders.build, key, source)
            finally:
                quiet_libraries()  # some are imported only now

        return Batcher(
            f"{key.kind} {key.name}",
            build,
            self._recovery,
            self._cpu if self._builders.device(key.kind) == "cpu" else FreeForAll(),
            functools.partial(self._metrics.batch, key.kind),
            # diarization takes longest and runs beside the rest, so nobody should wait for it
            ahead=key.kind is ModelKind.DIARIZER,
        )

    def _fetch(self, key: ModelKey) -> str:
        from app.models.hub import HubError, OfflineError

        try:
            return self._fetcher.fetch(key)
        except HubError as error:
            failure = ModelUnavailable if isinstance(error, OfflineError) else ModelMissing
            raise failure(f"The {key.kind} {key.short_name} is missing: {error.reason}") from error
