"""Recordings that are kept with their transcripts, as browsers play them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from app.audio.peaks import peaks_of
from app.domain.errors import ServiceError
from app.domain.transcript import Audio
from app.jobs.job import JobRequest, Upload
from app.service.calls import Call
from app.service.recording import Recording
from app.storage.objects import ObjectStore

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class KeptAudio:
    """A recording in the store of uploads."""

    media_type: str
    num_bytes: int


def is_wanted(request: JobRequest) -> bool:
    return request.keep_audio and isinstance(request.source, Upload)


class Keeping:
    """The recording of one run, which may be kept. `look` at its sound, then `keep` it.
    `peaks`: of that sound, see `peaks_of`.
    """

    def __init__(self, request: JobRequest, recording: Recording, uploads: ObjectStore) -> None:
        self._source = request.source
        self.wanted = is_wanted(request)
        self._recording = recording
        self._uploads = uploads
        self.peaks = b""

    def look(self, channels: Sequence[Audio]) -> None:
        if self.wanted:
            self.peaks = peaks_of([channel.samples for channel in channels])

    def keep(self, call: Call) -> KeptAudio | None:
        """None if it cannot be kept: that must not cost anybody the transcript.

        Raises:
            Cancelled, ShuttingDown, ...: the reason for which the run is cancelled.
        """
        try:
            return self._keep(call)
        except (ServiceError, OSError) as error:
            call.work.check()
            log.warning("a recording cannot be kept with its transcript: %s", error)
            return None

    def _keep(self, call: Call) -> KeptAudio:
        media_type, encoded = call.audio.playable(self._recording)
        if encoded is None:
            return KeptAudio(media_type, self._recording.path.stat().st_size)
        return KeptAudio(media_type, self._replace(encoded, call))

    def _replace(self, encoded: Path, call: Call) -> int:
        """What browsers can play takes the place of the upload. Its size in bytes."""
        assert isinstance(self._source, Upload)
        num_bytes = encoded.stat().st_size
        try:
            self._uploads.put(encoded, self._source.name, call.work.check)
        finally:
            encoded.unlink(missing_ok=True)
        return num_bytes
