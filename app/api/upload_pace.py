"""How fast an upload has to be."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from app.config.uploads import UploadSettings
from app.domain.errors import DeadlineExceeded, UploadStalled
from app.engine.work import Work
from app.service.upload_places import UploadPlace


class UploadPace:
    """Tells a slow line from a client that only blocks a place. Our own waits do not count."""

    place: UploadPlace

    def __init__(self, settings: UploadSettings) -> None:
        self.idle_timeout_s = settings.upload_idle_timeout_s
        self._min_bytes_per_s = settings.upload_min_bytes_per_s
        self._num_bytes = 0
        self._waited_s = 0.0
        self._ended = False
        self._waiting: asyncio.Timeout | None = None

    def end(self) -> None:
        """End the upload: its place goes to another one. Event loop only."""
        self._ended = True
        if self._waiting is not None:
            self._waiting.reschedule(asyncio.get_running_loop().time())

    async def next(self, stream: AsyncIterator[bytes], work: Work) -> bytes | None:
        """None at the end. Raises UploadStalled if the upload was too slow over the longest allowed
        pause, or for others who wait.
        """
        started = time.monotonic()
        try:
            async with asyncio.timeout(min(self.idle_timeout_s, work.left_s)) as self._waiting:
                data = await anext(stream, None)
        except TimeoutError:
            self._check_place()
            if work.left_s == 0:
                raise DeadlineExceeded("The upload took longer than a request may.") from None
            raise UploadStalled(
                f"The upload stopped for more than {self.idle_timeout_s:g} seconds."
            ) from None
        finally:
            self._waiting = None
        if data is not None:
            self._check_place()
            self._observe(len(data), time.monotonic() - started)
        return data

    def _check_place(self) -> None:
        if self._ended:
            raise UploadStalled(
                f"The upload was slower than {self._min_bytes_per_s} bytes per second while others "
                "waited for its place."
            )

    def _observe(self, num_bytes: int, waited_s: float) -> None:
        self.place.observe(num_bytes)
        self._num_bytes += num_bytes
        self._waited_s += waited_s
        if self._waited_s < self.idle_timeout_s:
            return
        if self._num_bytes < self._min_bytes_per_s * self._waited_s:
            raise UploadStalled(
                f"The upload was slower than {self._min_bytes_per_s} bytes per second."
            )
        self._num_bytes, self._waited_s = 0, 0.0
