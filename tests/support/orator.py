"""Receivers of Orator's webhook: as the deployed one reads it, and as its worker documents it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from tests.support.site import status


@dataclass
class Presentation:
    """What a receiver knows of a presentation afterwards, as the demo's truth names things."""

    text: str
    language: str
    segments: list[dict[str, Any]]
    speakers: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass
class Receiver:
    """`bodies`: all that came with the right secret, by job; `presentations`: what was stored.

    `answers`: statuses that it gives by job before it listens, such as 500.
    """

    secret: str
    flat: bool = False
    bodies: dict[Any, list[dict[str, Any]]] = field(default_factory=dict)
    presentations: dict[Any, Presentation] = field(default_factory=dict)
    answers: dict[Any, list[int]] = field(default_factory=dict)

    def __call__(self, handler: Any) -> None:
        status(self._answer(handler))(handler)

    def of(self, job_id: Any) -> list[dict[str, Any]]:
        return self.bodies.get(job_id, [])

    def _answer(self, handler: Any) -> int:
        authorization = handler.headers.get("Authorization")
        if not authorization:
            return 401
        if authorization.replace("Bearer ", "") != self.secret:
            return 403
        body = json.loads(handler.body)
        job_id, presentation_id = body.get("jobId"), body.get("presentationId")
        if not (job_id and presentation_id and body.get("status")):
            return 400
        self.bodies.setdefault(job_id, []).append(body)
        if self.answers.get(job_id):
            return self.answers[job_id].pop(0)
        if body["status"] == "success":
            read = _read_flat if self.flat else _read_nested
            self.presentations[presentation_id] = read(body)
        return 200


def _read_nested(body: dict[str, Any]) -> Presentation:
    """The deployed receiver replaces the segments of a presentation, makes speakers by label, and
    links segments to them by their number.
    """
    transcript, diarization = body["transcript"], body["diarization"]
    rows = {
        segment["order"]: {
            "start": segment["startTimestamp"],
            "end": segment["endTimestamp"],
            "text": segment["text"],
            "confidence": segment["confidence"] or None,
        }
        for segment in transcript["segments"]
    }
    assert len(rows) == len(transcript["segments"])
    speakers = {one["aiSpeakerLabel"]: one["metadata"] for one in diarization["speakers"]}
    for mapping in diarization["segmentSpeakerMappings"]:
        assert mapping["aiSpeakerLabel"] in speakers
        rows[mapping["order"]]["speaker"] = mapping["aiSpeakerLabel"]
    segments = [rows[number] for number in sorted(rows)]
    return Presentation(transcript["fullText"], transcript["language"], segments, speakers)


def _read_flat(body: dict[str, Any]) -> Presentation:
    segments = [
        {
            "start": segment["startTime"],
            "end": segment["endTime"],
            "text": segment["text"],
            "speaker": segment["speakerLabel"],
            "confidence": segment["confidence"],
        }
        for segment in body["segments"]
    ]
    speakers = {one["aiSpeakerLabel"]: one for one in body["diarization"]}
    assert isinstance(body["transcript"], str)
    return Presentation(body["transcript"], body["metadata"]["language"], segments, speakers)
