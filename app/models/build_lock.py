"""Which PyTorch models may be built at the same time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class BuildLock:
    """While transformers builds a model, every other one in the process that is being built loses
    its weights. So its builds run alone, and all others beside each other: a slow one, or one that
    fails, holds up nobody.

    Source: init_empty_weights in transformers/integrations/accelerate.py
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._num_beside = 0
        self._alone = False
        self._num_waiting = 0  # to be alone: these go first, or they would wait forever

    @contextmanager
    def beside(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not (self._alone or self._num_waiting))
            self._num_beside += 1
        try:
            yield
        finally:
            with self._changed:
                self._num_beside -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        with self._changed:
            self._num_waiting += 1
            try:
                self._changed.wait_for(lambda: not (self._alone or self._num_beside))
            finally:
                self._num_waiting -= 1
            self._alone = True
        try:
            yield
        finally:
            with self._changed:
                self._alone = False
                self._changed.notify_all()
