"""The use case behind every interface: turns a recording on disk into a transcript.

Independent of HTTP: a worker that polls a queue calls it just as an endpoint does.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from app.access.rate_limits import Account, RateLimits
from app.audio.decode_pool import DecodePool
from app.domain.options import TranscribeOptions
from app.domain.transcript import Audio, LanguageGuess, Transcript
from app.engine.work import Work
from app.formats.text import text_of
from app.observability.record import RequestRecord
from app.pipeline.channels import transcribe_channels
from app.pipeline.flow import NOBODY, Listener
from app.pipeline.transcribing import Transcribing
from app.service.admission import Admission
from app.service.computation import Computation
from app.service.joining import Failed, Joining
from app.service.metered_audio import MeteredAudio, duration_of
from app.service.recording import Recording
from app.service.ticket import Ticket

# Decoded first to detect the language; the whole recording if this has no speech.
DETECTION_PREFIX_S = 300.0


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
        self.audio = MeteredAudio(
            calls.decode_pool, calls.admission, ticket, account, calls.limits.max_duration_s
        )

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
            channels = self.audio.decode_channels(recording, all_counts)
            self.record.audio_s = duration_of(channels)
            on_audio(channels)
            transcript = transcribe_channels(self._run, channels, options, listener)
        else:
            audio = self.audio.decode_charged(recording, all_counts=all_counts)
            self.record.audio_s = audio.duration_s
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
            audio = self.audio.decode_charged(recording, prefix_s)
            self.record.audio_s = audio.duration_s
            is_all = prefix_s is None or audio.duration_s < prefix_s
            guess = self._calls.transcriber.detect_language(audio, model, self.work, is_all)
            if guess is not None:
                return guess
            prefix_s = None

    def _run(self, audio: Audio, options: TranscribeOptions, listener: Listener) -> Transcript:
        return self._calls.transcriber.transcribe(audio, options, self.work, listener)

    def _note(self, transcript: Transcript) -> None:
        self.record.warnings = tuple(warning.kind for warning in transcript.warnings)
        if self._calls.limits.log_transcripts:
            self.record.text = text_of(transcript.segments)
