"""The models of a service: which are loaded, whether they are well; here or in other processes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from app.domain.errors import ServiceError
from app.engine.model import ModelKey
from app.engine.store import ModelStore
from app.models.catalog import Catalog

if TYPE_CHECKING:
    from app.models.fetcher import ModelFetcher


class Models(Protocol):
    """Any thread. Only `preload` and `close` block."""

    def loaded(self) -> Sequence[ModelKey]: ...

    def degraded(self) -> list[str]:
        """Sentences about what does not work now."""

    def fatal(self) -> str:
        """Why nothing will work again in this process; empty if it may."""

    def device(self) -> str:
        """Of those in other processes; empty if they are in this one, or not known."""

    def check(self) -> None:
        """Replace dead parts. Call it now and then."""

    def preload(self, model: str) -> None:
        """Load what requests of a model need.

        Raises:
            ServiceError: it cannot be loaded.
        """

    def close(self) -> None: ...


class LocalModels:
    """Implements `Models` with those of this process."""

    def __init__(
        self, store: ModelStore, catalog: Catalog, fetcher: ModelFetcher, call_timeout_s: float
    ) -> None:
        """`call_timeout_s`: longest call of a model; 0: no limit."""
        self.store = store
        self.fetcher = fetcher
        self._catalog = catalog
        self._call_timeout_s = call_timeout_s

    def loaded(self) -> Sequence[ModelKey]:
        return self.store.loaded()

    def degraded(self) -> list[str]:
        dead = [
            f"The {key.kind} {key.short_name} stopped; the next request reloads it."
            for key in self.store.dead()
        ]
        return dead + self.store.missing()

    def fatal(self) -> str:
        call = self.store.longest_call()
        if call is not None and self._call_timeout_s and call[0] > self._call_timeout_s:
            return f"A call of the {call[1].kind} {call[1].short_name} does not return."
        return ""

    def device(self) -> str:
        return ""

    def check(self) -> None:
        self.store.check()

    def preload(self, model: str) -> None:
        """Load a model and the speech detector, and the diarizer if available."""
        for key in (self._catalog.vad(), self._catalog.recognizer(model)):
            with self.store.lease(key, try_at_once=True):
                pass
        with suppress(ServiceError), self.store.lease(self._catalog.diarizer(model)):
            pass

    def close(self) -> None:
        self.store.close()
