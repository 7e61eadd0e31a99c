"""Loading: one load of a model that any number of callers wait for, each as long as it likes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress
from typing import TypeAlias

from app.domain.errors import ModelUnavailable, ServiceError
from app.engine.loaded_models import LoadedModel
from app.engine.model import ModelKey

Wait: TypeAlias = Callable[[Future[None]], None]


class Loading:
    """Any thread. Ends once: only the first outcome counts."""

    def __init__(self) -> None:
        self._outcome: Future[None] = Future()

    def wait(self, wait: Wait) -> None:
        """Wait for the outcome with `wait`. Its future is this caller's own, so that it may be
        cancelled.

        Raises:
            Whatever `settle` was given, or `wait` raises.
        """
        wait(self._follow())

    def _follow(self) -> Future[None]:
        own: Future[None] = Future()

        def pass_on(outcome: Future[None]) -> None:
            with suppress(InvalidStateError):  # cancelled
                if error := outcome.exception():
                    own.set_exception(error)
                else:
                    own.set_result(None)

        self._outcome.add_done_callback(pass_on)
        return own

    def settle(self, error: BaseException | None = None) -> None:
        """End the wait of all who wait, and of those who come later."""
        with suppress(InvalidStateError):  # it has ended already
            if error is None:
                self._outcome.set_result(None)
            else:
                self._outcome.set_exception(error)

    @contextmanager
    def settled_after(self, seconds: float, error: ServiceError) -> Iterator[None]:
        """If the block takes longer, those who wait get this error. Raises RuntimeError if the
        system has no thread left."""
        timer = threading.Timer(seconds, self.settle, [error])
        timer.daemon = True
        try:
            timer.start()
            yield
        finally:
            timer.cancel()


def load_within(
    load: Callable[[ModelKey], LoadedModel], key: ModelKey, max_bytes: float
) -> LoadedModel:
    """A model that takes `max_bytes` at most.

    Raises:
        ModelUnavailable: it cannot be loaded. What a library raised is the cause.
        ServiceError: other errors of ours that `load` raises.
    """
    try:
        model = load(key)
        _check_size(key, model, max_bytes)
    except ServiceError:
        raise
    # Libraries raise anything here: for a broken file, for lack of memory.
    except Exception as error:
        raise ModelUnavailable(
            f"The {key.kind} {key.short_name} cannot be loaded: its files are broken, or "
            "memory is short. See the service's log."
        ) from error
    return model


def _check_size(key: ModelKey, model: LoadedModel, max_bytes: float) -> None:
    size = model.memory_bytes
    if size > max_bytes:
        model.close()
        raise ModelUnavailable(
            f"The {key.kind} model takes {size >> 20} MB, more than MODEL_MEMORY_MB allows."
        )
