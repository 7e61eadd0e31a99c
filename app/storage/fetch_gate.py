"""How much a fetch may write, checked while it does."""

from __future__ import annotations

from pathlib import Path

from app.domain.errors import DiskFull
from app.storage.fetch_failure import Failure, Reason
from app.storage.tempdir import check_room

ROOM_CHECK_BYTES = 16 << 20


class Gate:
    """`folder`: where the files are; `min_free_bytes` stay free on its disk."""

    def __init__(self, folder: Path, max_bytes: int, min_free_bytes: int) -> None:
        self.folder, self.max_bytes = folder, max_bytes
        self._min_free_bytes = min_free_bytes
        self._written = self._next_check = self._expected = 0

    def expect(self, num_bytes: int) -> None:
        """The file will have so many bytes, its source says. Raises Failure if that is too much."""
        self._check_size(num_bytes)
        if num_bytes > self._expected:
            self._expected = num_bytes
            self._check_room(num_bytes - self._written)

    def check(self, num_bytes: int) -> None:
        """So many bytes are written or about to be. Raises Failure if that is too much."""
        self._check_size(num_bytes)
        self._written = num_bytes
        if num_bytes >= self._next_check:
            self._next_check = num_bytes + ROOM_CHECK_BYTES
            self._check_room(ROOM_CHECK_BYTES)

    def _check_size(self, num_bytes: int) -> None:
        if num_bytes > self.max_bytes:
            raise Failure(Reason.TOO_LARGE)

    def _check_room(self, num_bytes: int) -> None:
        try:
            check_room(self.folder, num_bytes, self._min_free_bytes)
        except DiskFull:
            raise Failure(Reason.DISK_FULL) from None
