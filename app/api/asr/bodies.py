"""The JSON bodies of /asr and /detect-language."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class WordBody(BaseModel):
    """A word as written; without times where it could not be aligned."""

    word: str = Field(description="In the webservice dialect with its leading space.")
    start: float | None = Field(None, description="Seconds.")
    end: float | None = Field(None, description="Seconds.")
    score: float | None = Field(None, description="How sure its place is, from 0 to 1.")
    probability: float | None = Field(
        None, description="How sure the recognizer is of it, from 0 to 1 (webservice dialect)."
    )
    speaker: str | None = None


class SegmentBody(BaseModel):
    """A sentence or less, of one speaker."""

    start: float = Field(description="Seconds.")
    end: float = Field(description="Seconds.")
    text: str = Field(description="With its leading space: joining them rebuilds the transcript.")
    speaker: str | None = Field(None, description="Where speakers were told apart.")
    language: str | None = Field(None, description="Where each part has its own (`multi`).")
    words: list[WordBody] | None = Field(None, description="Where asked for and aligned.")
    id: int | None = Field(None, description="This and the next: webservice dialect only.")
    seek: int | None = Field(None, description="Start of the chunk in hundredths of a second.")
    tokens: list[int] | None = None
    temperature: float | None = Field(None, description="This and the next describe the chunk.")
    avg_logprob: float | None = None
    compression_ratio: float | None = None
    no_speech_prob: float | None = None


class SpeakerBody(BaseModel):
    speaker: str
    total_duration: float = Field(description="Seconds.")
    segment_count: int


_WORD: dict[str, Any] = {
    "word": "Hello.",
    "start": 0.62,
    "end": 1.04,
    "score": 0.91,
    "speaker": "SPEAKER_00",
}
_SEGMENT: dict[str, Any] = {
    "start": 0.62,
    "end": 1.04,
    "text": " Hello.",
    "speaker": "SPEAKER_00",
    "words": [_WORD],
}


class TranscriptBody(BaseModel):
    """The JSON answer of POST /asr."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "text": [_SEGMENT],
                "language": "en",
                "segments": [_SEGMENT],
                "word_segments": [_WORD],
                "duration": 2.5,
                "model": "large-v3",
                "speakers": [{"speaker": "SPEAKER_00", "total_duration": 0.42, "segment_count": 1}],
            }
        }
    )

    text: str | list[SegmentBody] = Field(
        description="The transcript (webservice dialect), or the segments (WhisperX dialect)."
    )
    language: str = Field(description="Code of the language spoken.")
    segments: list[SegmentBody]
    word_segments: list[WordBody] = Field(description="The words of all segments.")
    duration: float = Field(description="Of the recording, in seconds.")
    model: str
    speakers: list[SpeakerBody] | None = Field(None, description="Where they were told apart.")
    speaker_embeddings: dict[str, list[float]] | None = Field(
        None, description="A vector for each speaker, where asked for."
    )
    warnings: list[str] | None = Field(None, description="What the transcript lacks, and why.")


class LanguageBody(BaseModel):
    """The answer of POST /detect-language."""

    detected_language: str = Field(description="English name.", examples=["english"])
    language_code: str = Field(description="Whisper's code.", examples=["en"])
    confidence: float = Field(description="From 0 to 1.", examples=[0.98])
