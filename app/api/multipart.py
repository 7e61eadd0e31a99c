"""Multipart bodies, parsed in small steps: however they are made, others are served meanwhile."""

from __future__ import annotations

import asyncio
import time

from python_multipart.multipart import MultipartParser

from app.domain.errors import MalformedRequest
from app.service.pace import Pace

MAX_FIELDS = 100
MAX_DELIMITERS = 2 * MAX_FIELDS  # those included that turn out to be none
MAX_HEADER_BYTES = 16 << 10  # of one part, including its file name
MIN_STEP_BYTES, MAX_STEP_BYTES = 2 << 10, 16 << 10  # parsed at a time
DEAR_S = 0.3e-3  # many times what these take usually
CALLBACKS = (
    "on_part_begin",
    "on_part_data",
    "on_part_end",
    "on_header_field",
    "on_header_value",
    "on_header_end",
    "on_headers_finished",
    "on_end",
)


class PatientParser:
    """Parses in small steps. Bodies that are made to take long wait for their turn after each, and
    end where their boundary occurs too often: each time costs as much as megabytes of a file.
    """

    def __init__(self, boundary: bytes, form: object, pace: Pace) -> None:
        """`form` has a method for each of the parser's callbacks."""
        callbacks = {name: getattr(form, name) for name in CALLBACKS}
        self._parser = MultipartParser(boundary, callbacks, max_header_size=MAX_HEADER_BYTES)  # type: ignore[arg-type]
        self._delimiter = b"\r\n--" + boundary
        self._num_delimiters = 0
        self._tail = b""  # may be the beginning of one
        self._pace = pace
        self._step_bytes = MIN_STEP_BYTES  # twice as many after each step that was cheap

    async def parse(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            piece, rest = bytes(rest[: self._step_bytes]), rest[self._step_bytes :]
            cost_s = self._step(piece)
            self._step_bytes = min(2 * self._step_bytes, MAX_STEP_BYTES)
            if cost_s > DEAR_S:
                self._step_bytes = MIN_STEP_BYTES
                now_s = time.monotonic()
                await asyncio.sleep(self._pace.reserve(now_s, cost_s) - now_s)

    def finalize(self) -> None:
        """The form knows whether it is complete."""

    def _step(self, data: bytes) -> float:
        """Seconds of this thread that parsing took."""
        began_s = time.thread_time()
        self._count_delimiters(data)
        self._parser.write(data)
        return time.thread_time() - began_s

    def _count_delimiters(self, data: bytes) -> None:
        seen = self._tail + data
        self._num_delimiters += seen.count(self._delimiter)
        if self._num_delimiters > MAX_DELIMITERS:
            raise MalformedRequest(
                f"The form has more than {MAX_FIELDS} fields, or its boundary is inside of them."
            )
        self._tail = seen[1 - len(self._delimiter) :]
