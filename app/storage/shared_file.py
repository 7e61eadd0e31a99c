"""A temporary file that several parties need, each for a time of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class SharedFile:
    """Its first holder is whoever made it. The file is removed once nobody holds it any more."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._num_holders = 1

    @contextmanager
    def held(self) -> Iterator[None]:
        """Begin it while somebody else holds the file."""
        with self._lock:
            self._num_holders += 1
        try:
            yield
        finally:
            self.release()

    def release(self) -> None:
        """The end of the first holder, or of another one."""
        with self._lock:
            self._num_holders -= 1
            unused = self._num_holders == 0
        if unused:
            self.path.unlink(missing_ok=True)
