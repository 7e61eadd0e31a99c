"""The REST door: results stay here, and clients ask for them."""

from __future__ import annotations

from pydantic import JsonValue

from app.domain.transcript import Transcript
from app.engine.work import Work
from app.jobs.door import Notice
from app.jobs.job import Job
from app.jobs.notices import standard_notice


class RestDoor:
    def publish(self, job: Job, transcript: Transcript, work: Work) -> dict[str, JsonValue]:
        return {}

    def notice(self, job: Job, transcript: Transcript | None) -> Notice | None:
        return standard_notice(job)
