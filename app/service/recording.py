"""Recording: a media file on disk, as a caller hands it to the use case."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Recording:
    """A media file. `raw_pcm`: the file is 16 kHz mono signed 16-bit PCM without a header.

    `audio_track`: an index or a language; empty for the best track. `digest`: of its bytes; empty
    if it is to join no equal one. `held`: keeps a temporary file as long as it is needed.
    """

    path: Path
    raw_pcm: bool = False
    audio_track: str = ""
    digest: str = ""
    held: Callable[[], AbstractContextManager[None]] = nullcontext
