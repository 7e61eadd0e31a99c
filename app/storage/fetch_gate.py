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
        self._next_check = 0

    def check(self, num_bytes: int) -> None:
        """Raises Failure if so much is too much."""
        if num_bytes > self.max_bytes:
            raise Failure(Reason.TOO_LARGE)
        if num_bytes >= self._next_check:
            self._next_check = num_bytes + ROOM_CHECK_BYTES
            try:
                check_room(self.folder, ROOM_CHECK_BYTES, self._min_free_bytes)
            except DiskFull:
                raise Failure(Reason.DISK_FULL) from None
