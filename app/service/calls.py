"""The use case behind every interface: turns a recording on disk into a transcript.

Independent of HTTP: a worker that polls a queue calls it just as an endpoint does.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from app.access.rate_limits import Account, RateLimits
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
from app.domain.options import TranscribeOptions
from app.domain.transcript import Audio, LanguageGuess, Transcript
from app.engine.work import Work
from app.formats.text import text_of
from app.observability.record import RequestRecord
from app.observability.stages import Stage
from app.pipeline.channels import transcribe_channels
from app.pipeline.flow import NOBODY, Listener
from app.pipeline.transcribing import Transcribing
from app.service.admission import Admission, Ticket
from app.service.joining import Computation, Failed, Joining

# Ends of a decoding that are not the client's doing.
OURS = (DiskFull, ModelUnavailable, Overloaded, ShuttingDown)

# Decoded first to detect the language; the whole recording if this has no speech.
DETECTION_PREFIX_S = 300.0
# Charged for a decoding of which nothing comes: about what one that succeeds decodes in the time.
AUDIO_S_PER_CPU_S = 100.0
FREE_CPU_S = 0.1  # a broken file is found out sooner


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


@dataclass(frozen=True, slots=True)
class CallLimits:
    """Limits of each call. `log_transcripts`: the record keeps the text for the log."""

    timeout_s: float
    max_duration_s: float
    log_transcripts: bool = False


OnAudio = Callable[[Sequence[Audio]], None]


def ignore(channels: Sequence[Audio]) -> None:
    """The default for `on_audio`."""


class Calls:
    """Admits calls, which share models, queue and limits."""

    def __init__(
        self,
        transcriber: Transcribing,
        decode_pool: DecodePool,
        admission: Admission,
        rate_limits: RateLimits,
        limits: CallLimits,
        joining: Joining,
    ) -> None:
        self.transcriber = transcriber
        self.decode_pool = decode_pool
        self.admission = admission
        self.rate_limits = rate_limits
        self.limits = limits
        self.joining = joining

    @contextmanager
    def enter(
        self,
        kind: str,
        record: RequestRecord,
        client: str = "",
        account: str = "",
        *,
        background: bool = False,
        timeout_s: float | None = None,
    ) -> Iterator[Call]:
        """A place in the queue until the block ends.

        `client`: the name of the API key, which may cancel the call. `account`: whose rate limits
        apply, and whose share of the places it takes. `background`: it takes no place of others,
        and only what they leave of the models. `timeout_s`: instead of the usual limit.

        Raises:
            Overloaded: the queue is full.
            ShuttingDown: the service is ending.
        """
        timeout_s = self.limits.timeout_s if timeout_s is None else timeout_s
        work = Work(record.request_id, timeout_s, record.stages, background)
        with self.admission.enter(kind, work, client, account) as ticket:
            record.request_id = work.request_id  # changed if it was taken
            yield Call(self, ticket, record, self.rate_limits.account(account or client))


class Call:
    """One use of the service. All methods block: call them in the request's thread."""

    def __init__(
        self, calls: Calls, ticket: Ticket, record: RequestRecord, account: Account
    ) -> None:
        self._calls = calls
        self._ticket = ticket
        self.record = record
        self.account = account
        self._cpu_s = 0.0  # of the last decoding

    @property
    def work(self) -> Work:
        return self._ticket.work

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.work.stages.started

    @property
    def model(self) -> str:
        return self._ticket.model

    @model.setter
    def model(self, name: str) -> None:
        self._ticket.model = self.record.model = name

    def transcribe(
        self,
        recording: Recording,
        options: TranscribeOptions,
        listener: Listener = NOBODY,
        by_channel: bool = False,
        on_audio: OnAudio = ignore,
    ) -> Transcript:
        """The transcript of a recording, perhaps computed for an equal call of the same account.

        `by_channel`: each channel is one speaker. `on_audio`: background calls hand it the decoded
        channels.

        Raises:
            ServiceError: the recording cannot be decoded, is too long or exceeds a limit;
                recognition failed; the call was cancelled.
        """
        self.model = options.model
        if self.work.background:
            return self._compute(recording, options, listener, by_channel, on_audio)
        key = self._key(recording, options, by_channel) if recording.digest else None
        computation, member = self._calls.joining.enter(key, self._ticket, self.record)
        if member.is_first:
            self._begin(computation, recording, options, by_channel)
        try:
            return self._calls.joining.wait(computation, member, listener, self.record)
        except Failed as failed:
            if failed.told:  # it must not be told twice
                raise failed.reason from None
        finally:
            self._take_over(computation.record)
        self._ticket.source, self.work.progress, self.record.joined = None, 0.0, False
        return self._compute(recording, options, listener, by_channel)

    def _key(self, recording: Recording, options: TranscribeOptions, by_channel: bool) -> Hashable:
        """Equal for calls of one account that get the same transcript."""
        how = recording.digest, recording.raw_pcm, recording.audio_track, by_channel
        voices = tuple(
            (known.name, hashlib.sha256(known.audio.samples.tobytes()).digest())
            for known in options.known_speakers
        )
        return self._ticket.account, how, replace(options, known_speakers=()), voices

    def _begin(
        self,
        computation: Computation,
        recording: Recording,
        options: TranscribeOptions,
        by_channel: bool,
    ) -> None:
        calls = self._calls
        used = ExitStack()
        used.enter_context(recording.held())
        used.enter_context(calls.admission.computing(computation.ticket))
        call = Call(calls, computation.ticket, computation.record, self.account)
        calls.joining.begin(
            computation,
            lambda listener: call._compute(recording, options, listener, by_channel),
            used.close,
        )

    def _take_over(self, record: RequestRecord) -> None:
        """What is known about a computation holds for this request, too."""
        self.record.audio_s = record.audio_s
        self.record.warnings, self.record.text = record.warnings, record.text

    def _compute(
        self,
        recording: Recording,
        options: TranscribeOptions,
        listener: Listener,
        by_channel: bool,
        on_audio: OnAudio = ignore,
    ) -> Transcript:
        """Decode, weigh, charge, transcribe, note."""
        all_counts = options.speech.keep_silence
        if by_channel:
            channels = self._decode_channels_and_weigh(recording, all_counts)
            on_audio(channels)
            transcript = transcribe_channels(self._run, channels, options, listener)
        else:
            audio = self._decode_and_weigh(recording, all_counts=all_counts)
            on_audio([audio])
            transcript = self._run(audio, options, listener)
        self._note(transcript)
        return transcript

    def detect_language(self, recording: Recording, model: str) -> LanguageGuess:
        """The language of most of the recording.

        Raises:
            ServiceError: as in `transcribe`.
        """
        self.model = model
        prefix_s: float | None = DETECTION_PREFIX_S
        while True:
            audio = self._decode_and_weigh(recording, prefix_s)
            is_all = prefix_s is None or audio.duration_s < prefix_s
            guess = self._calls.transcriber.detect_language(audio, model, self.work, is_all)
            if guess is not None:
                return guess
            prefix_s = None

    def decode(
        self,
        recording: Recording,
        max_duration_s: float | None = None,
        stop_after_s: float | None = None,
    ) -> Audio:
        """The decoded audio of a recording. Charges nothing."""
        job = self._submit(recording, max_duration_s, stop_after_s)
        with self._paid(job):
            return job.audio(self.work.wait_tracked)

    def playable(self, recording: Recording) -> tuple[str, Path | None]:
        """The media type that browsers play of a recording, and a new file with it if they cannot
        play the recording itself. Charges nothing: what it costs is far less than the transcript.

        Raises:
            ServiceError: as in `transcribe`.
        """
        job = self._calls.decode_pool.submit_playable(
            recording.path,
            self._calls.limits.max_duration_s,
            recording.audio_track,
            client=(self.account.client, self.work.background),
        )
        return job.playable(self.work.wait_tracked)

    def hear(self, audio_s: float) -> None:
        """Weigh and charge the sound of a stream, of which so much has come until now.

        Raises:
            RateLimited: the account's limit is reached.
        """
        self.account.charge(self._calls.admission.weigh(self._ticket, audio_s))

    @contextmanager
    def _within_account(self) -> Iterator[float]:
        """The longest recording that the limits and the account allow. If the account decides, that
        is a second more than what is left, so that a recording just over it is measured.
        """
        limit_s = self._calls.limits.max_duration_s
        left_s = self.account.audio_left_s() + (self._ticket.audio_s or 0.0)
        try:
            yield min(limit_s, left_s + 1)
        except UploadTooLarge:
            if left_s + 1 < limit_s:
                self.account.exceed(left_s)
            raise

    def _decode_and_weigh(
        self, recording: Recording, stop_after_s: float | None = None, all_counts: bool = False
    ) -> Audio:
        """`all_counts`: gaps are work, too."""
        with self._within_account() as most_s:
            audio = self.decode(recording, most_s, stop_after_s)
        self._weigh([audio], all_counts)
        return audio

    def _decode_channels_and_weigh(self, recording: Recording, all_counts: bool) -> Sequence[Audio]:
        with self._within_account() as most_s:
            channels = self._decode_channels(recording, most_s)
        self._weigh(channels, all_counts)
        return channels

    def _decode_channels(self, recording: Recording, max_duration_s: float) -> Sequence[Audio]:
        job = self._submit(recording, max_duration_s, split_channels=True)
        with self._paid(job):
            return job.channels(self.work.wait_tracked)

    def _submit(
        self,
        recording: Recording,
        max_duration_s: float | None = None,
        stop_after_s: float | None = None,
        split_channels: bool = False,
    ) -> DecodeJob:
        return self._calls.decode_pool.submit(
            recording.path,
            max_duration_s or self._calls.limits.max_duration_s,
            recording.raw_pcm,
            stop_after_s,
            recording.audio_track,
            split_channels,
            client=(self.account.client, self.work.background),
        )

    @contextmanager
    def _paid(self, job: DecodeJob) -> Iterator[None]:
        """Measure the decoding; charge what it has cost if nothing comes of it."""
        try:
            with self.work.stages.measure_queued(Stage.DECODE, job):
                yield
        except OURS:
            raise
        except BaseException:
            self._spend(job.cpu_s)
            raise
        self._cpu_s = job.cpu_s

    def _spend(self, cpu_s: float) -> None:
        self.account.spend(max(0.0, cpu_s - FREE_CPU_S) * AUDIO_S_PER_CPU_S)

    def _weigh(self, channels: Sequence[Audio], all_counts: bool) -> None:
        audio_s = sum(audio.duration_s for audio in channels)
        work_s = audio_s if all_counts else sum(audio.work_s for audio in channels)
        more_s = self._calls.admission.weigh(self._ticket, audio_s, work_s)
        try:
            self.account.charge(more_s)
        except ServiceError:  # it was decoded all the same
            self._spend(self._cpu_s)
            raise
        self.record.audio_s = audio_s

    def _run(self, audio: Audio, options: TranscribeOptions, listener: Listener) -> Transcript:
        return self._calls.transcriber.transcribe(audio, options, self.work, listener)

    def _note(self, transcript: Transcript) -> None:
        self.record.warnings = tuple(warning.kind for warning in transcript.warnings)
        if self._calls.limits.log_transcripts:
            self.record.text = text_of(transcript.segments)
