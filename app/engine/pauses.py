"""Pauses: places in a model's work where something more urgent may go first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_pause: ContextVar[Callable[[], None] | None] = ContextVar("pause", default=None)


def pause() -> None:
    """Between two steps of a model, in its thread. Other work may run meanwhile, on the same model
    too: what the steps share must be in local variables.
    """
    call = _pause.get()
    if call is not None:
        call()


@contextmanager
def pauses(call: Callable[[], None]) -> Iterator[None]:
    """Have `pause` call this in the block's thread."""
    token = _pause.set(call)
    try:
        yield
    finally:
        _pause.reset(token)
