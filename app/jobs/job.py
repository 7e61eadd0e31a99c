"""The data of a job: what was asked, and how far it is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from app.domain.options import SpeakerBounds, TranscribeOptions
from app.domain.options import Task as TranscribeTask


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self in ENDED


ENDED = frozenset({JobState.DONE, JobState.FAILED, JobState.CANCELLED})


class JobStep(StrEnum):
    """What a running job does, in order. Alignment and diarization overlap with recognition."""

    FETCH = "fetch"
    DECODE = "decode"
    RECOGNIZE = "recognize"
    ALIGN = "align"
    DIARIZE = "diarize"
    STORE = "store"
    NOTIFY = "notify"


class Priority(StrEnum):
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class _Stored(BaseModel):
    """Stored as JSON. A newer version may add fields, which an older one ignores."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Upload(_Stored):
    """A file in our own store, under a name of ours."""

    kind: Literal["upload"] = "upload"
    name: str


class Url(_Stored):
    kind: Literal["url"] = "url"
    url: str


class S3Object(_Stored):
    """An object in somebody's bucket. It is never deleted."""

    kind: Literal["s3"] = "s3"
    bucket: str
    key: str


Source = Annotated[Upload | Url | S3Object, Field(discriminator="kind")]


class JobOptions(_Stored):
    """The options of the transcription, see `TranscribeOptions`. `model`: the canonical name."""

    model: str
    language: str | None = None
    usual_language: str | None = None
    multilingual: bool = False
    task: TranscribeTask = TranscribeTask.TRANSCRIBE
    initial_prompt: str = ""
    hotwords: str = ""
    temperature: float = 0.0
    beam_size: int | None = None
    diarize: bool = False
    num_speakers: int | None = None
    min_speakers: int | None = None
    max_speakers: int | None = None
    by_channel: bool = False
    audio_track: str = ""

    def transcribe_options(self) -> TranscribeOptions:
        return TranscribeOptions(
            model=self.model,
            language=self.language,
            usual_language=self.usual_language,
            multilingual=self.multilingual,
            task=self.task,
            initial_prompt=self.initial_prompt,
            hotwords=self.hotwords,
            temperature=self.temperature,
            beam_size=self.beam_size,
            diarize=self.diarize,
            speakers=SpeakerBounds(self.num_speakers, self.min_speakers, self.max_speakers),
        )


class WebhookTarget(_Stored):
    """Where to send the notice of a job's end. `form`: whose body and headers."""

    url: str
    form: str = "standard"


class JobRequest(_Stored):
    """What was asked for.

    `client`: the name of the API key, empty without keys; only this client may see the job.
    `account`: whose rate limits and whose turn in the queue. `door`: the interface that accepted
    it, which also publishes its result. `details`: the door's own data. `file_name` and `metadata`
    come from the client and are only given back. `keep_audio`: keep the upload with the transcript.
    """

    client: str = ""
    account: str = ""
    door: str = "rest"
    source: Source
    options: JobOptions
    output: str = "json"
    file_name: str = ""
    metadata: dict[str, JsonValue] = {}
    webhook: WebhookTarget | None = None
    priority: Priority = Priority.NORMAL
    details: dict[str, JsonValue] = {}
    keep_audio: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it is now. Times are seconds since 1970; None: not yet, or not known.

    `progress`: 0 to 100. `attempts`: runs that began, without those that were handed over.
    `published`: what the door noted when it published the result. `media_type`, `media_bytes`: of
    the recording that is kept with the transcript.
    """

    id: str
    request: JobRequest
    state: JobState
    created_at: float
    step: JobStep | None = None
    progress: float = 0.0
    attempts: int = 0
    started_at: float | None = None
    finished_at: float | None = None
    retry_at: float | None = None
    error_code: str = ""
    error: str = ""
    warnings: tuple[str, ...] = ()
    language: str = ""
    model: str = ""
    audio_s: float | None = None
    processing_s: float | None = None
    published: dict[str, JsonValue] | None = None
    cancel_requested: bool = False
    media_type: str = ""
    media_bytes: int | None = None

    def left_s(self, now: float) -> float | None:
        """Seconds until the end, estimated from the progress; None if there is nothing to go by."""
        if self.state is not JobState.RUNNING or self.started_at is None:
            return None
        share = self.progress / 100
        if share < MIN_SHARE:
            return None
        return max(0.0, now - self.started_at) * (1 - share) / share


MIN_SHARE = 0.15  # below it, the time left cannot be estimated
