"""The body of POST /format: the JSON of a job's result, corrected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from app.domain.languages import LANGUAGES_WITHOUT_SPACES
from app.domain.transcript import Segment, Transcript, Word

MAX_TIME_S = 1e7  # some months
MAX_SEGMENTS, MAX_WARNINGS = 200_000, 50
MAX_MISSES = 1000  # words that are not where they should be

Seconds = Annotated[float, Field(ge=0, le=MAX_TIME_S, allow_inf_nan=False)]
Score = Annotated[float, Field(allow_inf_nan=False)]
Name = Annotated[str, Field(max_length=1000)]


# Slots: there may be a hundred thousand of them.
@dataclass(slots=True)
class WordBody:
    """A word, in the order of the segment's text."""

    word: str
    start: Seconds | None = None
    end: Seconds | None = None
    score: Score | None = None
    speaker: Name | None = None


@dataclass(slots=True)
class SegmentBody:
    """A timed line of one speaker."""

    start: Seconds
    end: Seconds
    text: str
    speaker: Name | None = None
    language: Annotated[str, Field(max_length=20)] | None = None
    words: Annotated[list[WordBody], Field(fail_fast=True)] | None = None


class TranscriptBody(BaseModel):
    """A result, as `GET /result` has it. Only the segments are required; unknown fields are left
    out of the answer.
    """

    model_config = ConfigDict(extra="ignore")

    segments: Annotated[list[SegmentBody], Field(max_length=MAX_SEGMENTS, fail_fast=True)]
    language: Annotated[str, Field(pattern=r"^[a-z]{2,3}$", examples=["en"])] = "und"
    file_name: Annotated[
        str, Field(max_length=1000, description="The answer is named after it.")
    ] = ""
    duration: Seconds | None = None
    model: Name = ""
    task_id: Name = ""
    processing_time: Seconds | None = None
    warnings: Annotated[list[Name], Field(max_length=MAX_WARNINGS, fail_fast=True)] = []
    metadata: dict[str, JsonValue] = {}

    def transcript(self) -> Transcript:
        end_s = max((segment.end for segment in self.segments), default=0.0)
        return Transcript(
            language=self.language,
            duration_s=end_s if self.duration is None else self.duration,
            model=self.model,
            segments=tuple(_segment(segment, self.language) for segment in self.segments),
            speakers_known=any(segment.speaker is not None for segment in self.segments),
        )


def _segment(body: SegmentBody, language: str) -> Segment:
    unspaced = (body.language or language) in LANGUAGES_WITHOUT_SPACES
    gap = "" if unspaced and not body.text[:1].isascii() else " "  # results come without it
    return Segment(
        start_s=body.start,
        end_s=max(body.start, body.end),
        text=gap + body.text.lstrip(),
        words=None if body.words is None else tuple(_word(w, body.speaker) for w in body.words),
        speaker=body.speaker,
        language=body.language,
    )


def _word(body: WordBody, speaker: str | None) -> Word:
    timed = body.start is not None and body.end is not None
    start_s, end_s = (body.start, body.end) if timed else (None, None)
    return Word(body.word, start_s, end_s, body.score, body.speaker or speaker)


def num_misses(segments: Sequence[Segment]) -> int:
    """How many words their segment's text does not have at their place: each costs a search."""
    count = 0
    for segment in segments:
        at = 0
        for word in segment.words or ():
            text = word.text.strip()
            found = segment.text.find(text, at)
            count += found < 0
            at = at if found < 0 else found + len(text)
            if count > MAX_MISSES:
                return count
    return count


def body_schema() -> dict[str, Any]:
    """Of a TranscriptBody, without references."""
    schema = TranscriptBody.model_json_schema()
    kinds = schema.pop("$defs")

    def inlined(part: Any) -> Any:
        if isinstance(part, list):
            return [inlined(item) for item in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            name = part["$ref"].rpartition("/")[2]
            return {} if name == "JsonValue" else inlined(kinds[name])
        return {name: inlined(value) for name, value in part.items()}

    whole: dict[str, Any] = inlined(schema)
    return whole
