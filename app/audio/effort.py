"""How much work one file may cause. Seconds of sound do not bound it: a file of a few kilobytes can
change its format in each frame, or be at a rate for which the filters alone fill the memory.

The limits lie far above what recordings need: FFmpeg decodes 100 to 500 seconds of sound in a
second.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from app.domain.errors import TooCostly, UndecodableAudio

CPU_S = 10.0  # for any file
CPU_S_PER_SOUND_S = 0.2
CPU_S_PER_MB = 0.2
SLACK_S = 5.0  # FFmpeg may work this long between two checks, more than the file has so far
WRITTEN_BYTES = 256 << 20  # an hour, for any file
WRITTEN_PER_BYTE = 2000  # speech codecs go down to 56 bytes a second, which become 64,000
FORMATS, FORMATS_PER_SOUND_S = 100, 0.2  # changes of rate or channels: a stream of songs has some
MIN_RATE, MAX_RATE = 1000, 3_072_000  # from old telephones up to DSD512
MAX_CHANNELS = 64

TOO_COSTLY = "Decoding the file takes far more work than its length explains."
BAD_RATE = f"The sampling rate is not between {MIN_RATE} and {MAX_RATE} Hz."
BAD_CHANNELS = f"The file has more than {MAX_CHANNELS} channels."


def nothing(seconds: float) -> None:
    """The default for `limit_cpu`."""


class Effort:
    """The work that one file has caused. All methods raise TooCostly beyond its limits."""

    def __init__(
        self,
        num_bytes: int,
        limit_cpu: Callable[[float], None] = nothing,
        clock: Callable[[], float] = time.process_time,
    ) -> None:
        """`num_bytes`: of the file. `limit_cpu`: ends the process at this time of `clock`, wherever
        it is.
        """
        self._clock = clock
        self._limit_cpu = limit_cpu
        self._free_s = clock() + CPU_S + CPU_S_PER_MB * num_bytes / 1e6
        self._left_bytes = WRITTEN_BYTES + WRITTEN_PER_BYTE * num_bytes
        self._num_formats = 0
        self._format: tuple[int, int] | None = None
        self._sound_s = 0.0
        self._limited_s = 0.0
        self.check()

    def check(self) -> None:
        """Call this for each packet."""
        until = self._free_s + CPU_S_PER_SOUND_S * self._sound_s
        if self._clock() > until:
            raise TooCostly(TOO_COSTLY)
        if until > self._limited_s + 1:
            self._limited_s = until
            self._limit_cpu(until + SLACK_S)

    def hear(self, num_channels: int, rate: int, num_samples: int) -> None:
        """The next frame of sound. Raises UndecodableAudio: a format that no recording has."""
        if not MIN_RATE <= rate <= MAX_RATE:
            raise UndecodableAudio(BAD_RATE)
        if num_channels > MAX_CHANNELS:
            raise UndecodableAudio(BAD_CHANNELS)
        if self._format != (num_channels, rate):
            self._format = num_channels, rate
            self._num_formats += 1
            if self._num_formats > FORMATS + FORMATS_PER_SOUND_S * self._sound_s:
                raise TooCostly(TOO_COSTLY)
        self._sound_s += num_samples / rate

    def write(self, num_bytes: int) -> None:
        self._left_bytes -= num_bytes
        if self._left_bytes < 0:
            raise TooCostly(TOO_COSTLY)
