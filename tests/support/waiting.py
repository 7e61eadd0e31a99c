"""Waiting for what follows sooner or later, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_S = 60.0  # for what takes a moment on a machine that does nothing else


def eventually(condition: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, f"not so within {patience_s:g} s"
        time.sleep(0.02)
