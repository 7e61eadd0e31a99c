"""Pauses: points in a model's work at which something more urgent may go first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_pause: ContextVar[Callable[[], None] | None] = ContextVar("pause", default=None)


def pause() -> None:
    """Call it between two steps of a model, in its thread. Other work may run meanwhile, even on
    the same model, so the steps may share local variables only.
    """
    call = _pause.get()
    if call is not None:
        call()


@contextmanager
def pauses(call: Callable[[], None]) -> Iterator[None]:
    """Inside the block and its thread, `pause` calls `call`."""
    token = _pause.set(call)
    try:
        yield
    finally:
        _pause.reset(token)
