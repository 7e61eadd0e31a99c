"""MeteredAudio: the sound of one call, decoded, weighed against the queue, charged to its account.

What a limit of the account leaves bounds how much is decoded, and a decoding of which nothing
comes costs what it took.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from app.access.rate_limits import Account
from app.audio.decode_job import DecodeJob
from app.audio.decode_pool import DecodePool
from app.domain.errors import (
    DiskFull,
    ModelUnavailable,
    Overloaded,
    ServiceError,
    ShuttingDown,
    UploadTooLarge,
)
from app.domain.transcript import Audio
from app.engine.work import Work
from app.observability.stages import Stage
from app.service.admission import Admission
from app.service.recording import Recording
from app.service.ticket import Ticket

# Ends of a decoding that are not the client's doing.
OURS = (DiskFull, ModelUnavailable, Overloaded, ShuttingDown)

# Charged for a decoding of which nothing comes: about what one that succeeds decodes in the time.
AUDIO_S_PER_CPU_S = 100.0
FREE_CPU_S = 0.1  # a broken file is found out sooner


class MeteredAudio:
    """All methods block: call them in the request's thread."""

    def __init__(
        self,
        decode_pool: DecodePool,
        admission: Admission,
        ticket: Ticket,
        account: Account,
        max_duration_s: float,
    ) -> None:
        self._decode_pool = decode_pool
        self._admission = admission
        self._ticket = ticket
        self._account = account
        self._max_duration_s = max_duration_s
        self._cpu_s = 0.0  # of the last decoding

    @property
    def _work(self) -> Work:
        return self._ticket.work

    def decode_charged(
        self, recording: Recording, stop_after_s: float | None = None, all_counts: bool = False
    ) -> Audio:
        """A recording, decoded, weighed and charged. `all_counts`: gaps are work, too.

        Raises:
            ServiceError: it cannot be decoded, is too long or exceeds a limit.
        """
        with self._within_account() as most_s:
            audio = self.decode(recording, most_s, stop_after_s)
        self._weigh([audio], all_counts)
        return audio

    def decode_channels(self, recording: Recording, all_counts: bool) -> Sequence[Audio]:
        """As `decode_charged`, but each channel by itself."""
        with self._within_account() as most_s:
            job = self._submit(recording, most_s, split_channels=True)
            with self._paid(job):
                channels = job.channels(self._work.wait_tracked)
        self._weigh(channels, all_counts)
        return channels

    def charge_stream(self, audio_s: float) -> None:
        """Weigh and charge the sound of a stream, of which so much has come until now.

        Raises:
            RateLimited: the account's limit is reached.
        """
        self._account.charge(self._admission.weigh(self._ticket, audio_s))

    def decode(
        self,
        recording: Recording,
        max_duration_s: float | None = None,
        stop_after_s: float | None = None,
    ) -> Audio:
        """The decoded audio of a recording. Charges nothing, unless it fails."""
        job = self._submit(recording, max_duration_s, stop_after_s)
        with self._paid(job):
            return job.audio(self._work.wait_tracked)

    def playable(self, recording: Recording) -> tuple[str, Path | None]:
        """The media type that browsers play of a recording, and a new file with it if they cannot
        play the recording itself. Charges nothing: what it costs is far less than the transcript.

        Raises:
            ServiceError: it cannot be decoded, or is too long.
        """
        job = self._decode_pool.submit_playable(
            recording.path,
            self._max_duration_s,
            recording.audio_track,
            client=(self._account.client, self._work.background),
        )
        return job.playable(self._work.wait_tracked)

    def _submit(
        self,
        recording: Recording,
        max_duration_s: float | None = None,
        stop_after_s: float | None = None,
        split_channels: bool = False,
    ) -> DecodeJob:
        return self._decode_pool.submit(
            recording.path,
            max_duration_s or self._max_duration_s,
            recording.raw_pcm,
            stop_after_s,
            recording.audio_track,
            split_channels,
            client=(self._account.client, self._work.background),
        )

    @contextmanager
    def _within_account(self) -> Iterator[float]:
        """The longest recording that the limits and the account allow. If the account decides, that
        is a second more than what is left, so that a recording just over it is measured.
        """
        limit_s = self._max_duration_s
        left_s = self._account.audio_left_s() + (self._ticket.audio_s or 0.0)
        try:
            yield min(limit_s, left_s + 1)
        except UploadTooLarge:
            if left_s + 1 < limit_s:
                self._account.exceed(left_s)
            raise

    @contextmanager
    def _paid(self, job: DecodeJob) -> Iterator[None]:
        """Measure the decoding; charge what it has cost if nothing comes of it."""
        try:
            with self._work.stages.measure_queued(Stage.DECODE, job):
                yield
        except OURS:
            raise
        except BaseException:
            self._spend(job.cpu_s)
            raise
        self._cpu_s = job.cpu_s

    def _spend(self, cpu_s: float) -> None:
        self._account.spend(max(0.0, cpu_s - FREE_CPU_S) * AUDIO_S_PER_CPU_S)

    def _weigh(self, channels: Sequence[Audio], all_counts: bool) -> None:
        audio_s = duration_of(channels)
        work_s = audio_s if all_counts else sum(audio.work_s for audio in channels)
        more_s = self._admission.weigh(self._ticket, audio_s, work_s)
        try:
            self._account.charge(more_s)
        except ServiceError:  # it was decoded all the same
            self._spend(self._cpu_s)
            raise


def duration_of(channels: Sequence[Audio]) -> float:
    """Seconds of sound, of all channels together."""
    return sum(audio.duration_s for audio in channels)
