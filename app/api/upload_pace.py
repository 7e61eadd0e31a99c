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

    def __init__(self, settings: UploadSettings, place: UploadPlace) -> None:
        self._place = place
        self.idle_timeout_s = settings.upload_idle_timeout_s
        self._min_bytes_per_s = settings.upload_min_bytes_per_s
        self._num_bytes = 0
        self._waited_s = 0.0

    async def next(self, stream: AsyncIterator[bytes], work: Work) -> bytes | None:
        """None at the end. Raises UploadStalled if the upload was too slow over the longest allowed
        pause.
        """
        started = time.monotonic()
        try:
            async with asyncio.timeout(min(self.idle_timeout_s, work.left_s)):
                data = await anext(stream, None)
        except TimeoutError:
            if work.left_s == 0:
                raise DeadlineExceeded("The upload took longer than a request may.") from None
            raise UploadStalled(
                f"The upload stopped for more than {self.idle_timeout_s:g} seconds."
            ) from None
        if data is not None:
            self._observe(len(data), time.monotonic() - started)
        return data

    def _observe(self, num_bytes: int, waited_s: float) -> None:
        self._place.observe(num_bytes)
        self._num_bytes += num_bytes
        self._waited_s += waited_s
        if self._waited_s < self.idle_timeout_s:
            return
        if self._num_bytes < self._min_bytes_per_s * self._waited_s:
            raise UploadStalled(
                f"The upload was slower than {self._min_bytes_per_s} bytes per second."
            )
        self._num_bytes, self._waited_s = 0, 0.0
