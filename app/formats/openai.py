"""Transcript -> the bodies and events of OpenAI's audio API.

Source: https://platform.openai.com/docs/api-reference/audio
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, product
from string import ascii_uppercase
from typing import Any

from app.domain.languages import language_name
from app.domain.options import Task
from app.domain.transcript import Segment, TokenProb, Transcript
from app.formats.figures import decoder_figures
from app.formats.subtitles import SubtitleStyle
from app.formats.table import DIARIZED_JSON, JSON, TEXT, VERBOSE_JSON, OutputFormat
from app.formats.text import text_of
from app.formats.times import seconds

TEXT_SEGMENT = "transcript.text.segment"


@dataclass(frozen=True, slots=True)
class Shape:
    """What the answer contains. `names`: of the known speakers.

    `with_speakers`: also in formats that OpenAI has without.
    """

    output: OutputFormat
    task: Task = Task.TRANSCRIBE
    with_words: bool = False
    with_segments: bool = True
    with_logprobs: bool = False
    with_speakers: bool = False
    with_embeddings: bool = False
    names: tuple[str, ...] = ()


def write(transcript: Transcript, shape: Shape, style: SubtitleStyle) -> str:
    if shape.output is TEXT and not (shape.with_speakers and transcript.speakers_known):
        return text_of(transcript.segments) + "\n"  # without speakers, on one line
    if shape.output.writer is not None:
        return shape.output.writer(transcript, style)
    body = {**BODIES[shape.output](transcript, shape), **_embeddings(transcript, shape)}
    return json.dumps(body, ensure_ascii=False, allow_nan=False)


def _usage(transcript: Transcript) -> dict[str, Any]:
    return {"type": "duration", "seconds": math.ceil(transcript.duration_s)}


# -- bodies --------------------------------------------------------------------------------------


def _json(transcript: Transcript, shape: Shape) -> dict[str, Any]:
    body: dict[str, Any] = {"text": text_of(transcript.segments)}
    if shape.task is Task.TRANSCRIBE:
        body["languages"] = [{"code": transcript.language}]
        body["usage"] = _usage(transcript)
    if shape.with_logprobs:
        body["logprobs"] = logprobs(transcript.segments)
    if shape.with_speakers and transcript.speakers_known:
        body["segments"] = diarized_segments(transcript, shape.names)
    return body


def _verbose_json(transcript: Transcript, shape: Shape) -> dict[str, Any]:
    # a translation is in English; `transcript.language` is the spoken language
    language = "en" if shape.task is Task.TRANSLATE else transcript.language
    body: dict[str, Any] = {
        "task": shape.task.value,
        "language": language_name(language),
        "duration": seconds(transcript.duration_s),
        "text": text_of(transcript.segments),
    }
    if shape.with_segments:
        body["segments"] = [
            {**_segment(i, s), **_speaker(s.speaker)} for i, s in enumerate(transcript.segments)
        ]
    if shape.with_words:
        body["words"] = [word for s in transcript.segments for word in _words(s)]
    return {**body, "usage": _usage(transcript)}


def _line(number: int, segment: Segment) -> dict[str, Any]:
    """What subtitle editors need. The speakers of diarized answers are in events of their own."""
    return {
        "id": number,
        "start": seconds(segment.start_s),
        "end": seconds(segment.end_s),
        "text": segment.text,
    }


def _segment(number: int, segment: Segment) -> dict[str, Any]:
    return {**_line(number, segment), **decoder_figures(segment)}


def _words(segment: Segment) -> Iterator[dict[str, Any]]:
    """The aligned words only: the format requires times, which the others do not have."""
    for word in segment.words or ():
        if word.start_s is not None and word.end_s is not None:
            yield {
                "word": word.text,
                "start": seconds(word.start_s),
                "end": seconds(word.end_s),
                **_speaker(word.speaker),
            }


def _speaker(label: str | None) -> dict[str, str]:
    return {"speaker": label} if label else {}


def _embeddings(transcript: Transcript, shape: Shape) -> dict[str, Any]:
    """A voice vector for each speaker, under the label that the body's segments have."""
    if not (shape.with_embeddings and transcript.speakers_known):
        return {}
    labels: Mapping[str, str] = {}
    if shape.output is not VERBOSE_JSON:
        labels = _labels(transcript, shape.names)
    vectors = {
        labels.get(speaker, speaker): list(vector)
        for speaker, vector in transcript.speaker_embeddings.items()
        if all(map(math.isfinite, vector))
    }
    return {"speaker_embeddings": vectors}


def _diarized_json(transcript: Transcript, shape: Shape) -> dict[str, Any]:
    return {
        "task": shape.task.value,
        "duration": seconds(transcript.duration_s),
        "text": text_of(transcript.segments),
        "segments": diarized_segments(transcript, shape.names),
        "usage": _usage(transcript),
    }


BODIES: dict[OutputFormat, Callable[[Transcript, Shape], dict[str, Any]]] = {
    JSON: _json,
    VERBOSE_JSON: _verbose_json,
    DIARIZED_JSON: _diarized_json,
}


def diarized_segments(transcript: Transcript, names: Sequence[str]) -> list[dict[str, Any]]:
    """Each segment with the label of its speaker, see `_labels`."""
    labels = _labels(transcript, names)
    return [
        {
            "type": TEXT_SEGMENT,
            "id": f"seg_{i}",
            "start": seconds(segment.start_s),
            "end": seconds(segment.end_s),
            "speaker": labels[segment.speaker or ""],
            "text": segment.text,
        }
        for i, segment in enumerate(transcript.segments)
    ]


def _labels(transcript: Transcript, names: Sequence[str]) -> dict[str, str]:
    """Known speakers have their names and others letters, in order of appearance."""
    letters = ("".join(found) for n in count(1) for found in product(ascii_uppercase, repeat=n))
    free = (letter for letter in letters if letter not in names)
    labels = {name: name for name in names}
    labels[""] = "unknown"  # speech outside every turn
    for segment in transcript.segments:
        if segment.speaker and segment.speaker not in labels:
            labels[segment.speaker] = next(free)
    return labels


def logprobs(segments: Iterable[Segment]) -> list[dict[str, Any]]:
    """The tokens of the text. A character of several bytes may be split between tokens."""
    return [_logprob(prob) for segment in segments for prob in segment.token_probs]


def _logprob(prob: TokenProb) -> dict[str, Any]:
    return {
        "token": prob.token.decode("utf-8", "replace"),
        "logprob": prob.logprob,
        "bytes": list(prob.token),
    }


# -- events --------------------------------------------------------------------------------------


class Deltas:
    """Text deltas. Joined, they are the text of the transcript."""

    def __init__(self, with_logprobs: bool) -> None:
        self._with_logprobs = with_logprobs
        self._begun = False
        self._held = ""  # trailing whitespace, sent once text follows

    def delta(self, segment: Segment) -> dict[str, Any] | None:
        """The event for a segment; None if there is no new text."""
        text = self._held + segment.text
        kept = text.rstrip()
        self._held = text[len(kept) :]
        if not self._begun:
            kept = kept.lstrip()
        if not kept:
            return None
        self._begun = True
        event: dict[str, Any] = {"type": "transcript.text.delta", "delta": kept}
        if self._with_logprobs:
            event["logprobs"] = logprobs([segment])
        return event


def done(transcript: Transcript, shape: Shape) -> dict[str, Any]:
    event: dict[str, Any] = {
        "type": "transcript.text.done",
        "text": text_of(transcript.segments),
        "segments": [_line(i, segment) for i, segment in enumerate(transcript.segments)],
    }
    if shape.task is Task.TRANSCRIBE:
        event["languages"] = [{"code": transcript.language}]
    if shape.with_logprobs:
        event["logprobs"] = logprobs(transcript.segments)
    event |= _embeddings(transcript, shape)
    if transcript.warnings:  # otherwise a header, but the headers are already sent
        event["warnings"] = [warning.sentence for warning in transcript.warnings]
    return event
