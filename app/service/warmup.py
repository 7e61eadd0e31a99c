"""Models before the first request: preloaded or downloaded."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator, Sequence

from app.domain.errors import ModelUnavailable, ServiceError, UnknownModel
from app.domain.languages import parse_language
from app.engine.model import ModelKey
from app.service.models import LocalModels
from app.service.service import Service

log = logging.getLogger(__name__)

PRELOAD_RETRY_S = 30.0


def warm_up(service: Service, stopping: threading.Event) -> None:
    """Load PRELOAD_MODEL; the service is not /ready before."""
    name = service.settings.preload_model
    while not stopping.is_set():
        try:
            service.decode_pool.warm_up()
            if name:
                service.models.preload(service.catalog.resolve(name))
            break
        # No error (no free process, no memory) may keep the service unready for good.
        except Exception as error:
            if stopping.is_set() or isinstance(error, UnknownModel):
                return
            told = isinstance(error, ModelUnavailable)  # the store has logged it
            known = isinstance(error, ServiceError)  # needs no traceback
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


def download_models(
    service: Service, models: Sequence[str], languages: Sequence[str], diarization: bool
) -> Iterator[str]:
    """Download models, or their newer versions, into the cache; yields a line for each. All except
    recognizers are also loaded, to see whether that works.

    Raises:
        ServiceError: one of them is not available.
    """
    local = service.models
    assert isinstance(local, LocalModels)
    settings, catalog, fetcher = service.settings, service.catalog, local.fetcher
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
        with local.store.lease(key, try_at_once=True):
            yield f"{key.kind} {key.name}: in {settings.cache_dir}"


@contextlib.contextmanager
def download_errors(key: ModelKey) -> Iterator[None]:
    try:
        yield
    except ServiceError:
        raise
    # Libraries raise anything here. The store treats models that it loads in the same way.
    except Exception as error:
        raise ModelUnavailable(f"{key.name} cannot be downloaded: {error}") from error
