"""/media and /peaks: the recordings that are kept with their transcripts, to be played."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, Field

from app.access.links import LIFETIME_S, Links
from app.api.byte_ranges import Unsatisfiable, requested_range
from app.api.jobs import documentation
from app.api.jobs.desk import Desk
from app.api.request_state import client_name
from app.audio.peaks import FULL_SCALE
from app.domain.errors import ObjectMissing, UnknownJob
from app.jobs.job import Job, JobState, Upload
from app.jobs.jobs import Jobs

PART_BYTES = 2 << 20  # of one answer to a range: players ask for the next one
NOT_KEPT = "The recording of this job is not kept: send keep_audio=true with it."


class LinkBody(BaseModel):
    url: str = Field(description="On this host, with what it needs to work without a key.")
    expires_in: int | None = Field(description="Seconds; null where no key is needed.")


class PeaksBody(BaseModel):
    duration: float = Field(description="Of the recording, in seconds.")
    peaks: list[float] = Field(
        description="The loudest sample of each of up to 4000 equally long parts, from 0 to 1."
    )


@dataclass(frozen=True, slots=True)
class Media:
    """Answers about the recordings of a request's client. `reading`: so that a slow bucket holds up
    nobody who asks for jobs.
    """

    jobs: Jobs
    desk: Desk
    reading: Desk
    links: Links | None

    async def media(self, request: Request, task_id: str) -> Response:
        job = await self._kept(request, task_id)
        size, headers = job.media_bytes or 0, _headers(job)
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        try:
            wanted = _wanted_range(request.headers, headers["ETag"], size)
        except Unsatisfiable:
            return Response(status_code=416, headers={"Content-Range": f"bytes */{size}"})
        if wanted is not None:
            return await self._part(request, job, wanted, headers)
        headers["Content-Length"] = str(size)
        if request.method == "HEAD":
            return Response(headers=headers)
        first = await self._read(job, range(0, min(size, PART_BYTES)))  # before the answer begins
        return StreamingResponse(self._whole(job, first, size), headers=headers)

    async def _part(
        self, request: Request, job: Job, wanted: range, headers: dict[str, str]
    ) -> Response:
        part = wanted[:PART_BYTES]
        headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{job.media_bytes}"
        if request.method == "HEAD":
            return Response(status_code=206, headers={**headers, "Content-Length": str(len(part))})
        return Response(await self._read(job, part), 206, headers)

    async def _whole(self, job: Job, first: bytes, size: int) -> AsyncIterator[bytes]:
        yield first
        for begin in range(len(first), size, PART_BYTES):
            yield await self._read(job, range(begin, min(begin + PART_BYTES, size)))

    async def _read(self, job: Job, part: range) -> bytes:
        source = job.request.source
        assert isinstance(source, Upload)
        reading = partial(self.jobs.uploads.read, source.name, part.start, part.stop)
        try:
            return await self.reading.ask(reading)
        except ObjectMissing as error:  # of a machine that has its own folder
            raise UnknownJob(error.message) from None

    async def link(self, request: Request, task_id: str) -> Response:
        job = await self._kept(request, task_id)
        address = f"{request.scope.get('root_path', '')}/media/{job.id}"
        if self.links is None:
            return JSONResponse({"url": address, "expires_in": None})
        query = urlencode(self.links.sign(client_name(request.scope), job.id))
        return JSONResponse({"url": f"{address}?{query}", "expires_in": LIFETIME_S})

    async def peaks(self, request: Request, task_id: str) -> Response:
        job = await self._kept(request, task_id)
        peaks = await self.desk.ask(partial(self.jobs.store.peaks, job.id)) or b""
        shares = [round(peak / FULL_SCALE, 3) for peak in peaks]
        body = {"duration": round(job.audio_s or 0.0, 3), "peaks": shares}
        return Response(json.dumps(body), media_type="application/json")

    async def _kept(self, request: Request, task_id: str) -> Job:
        """A job whose recording is kept. Raises UnknownJob."""
        client = client_name(request.scope)
        job = await self.desk.ask(partial(self.jobs.find, task_id, client))
        if job.state is not JobState.DONE or not job.media_type:
            raise UnknownJob(NOT_KEPT)
        return job


def _headers(job: Job) -> dict[str, str]:
    return {
        "Content-Type": job.media_type,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "ETag": f'"{hashlib.sha256(job.id.encode()).hexdigest()[:32]}"',  # it never changes
    }


def _wanted_range(headers: Mapping[str, str], etag: str, size: int) -> range | None:
    """Raises Unsatisfiable."""
    if headers.get("if-range", etag) != etag:
        return None
    return requested_range(headers.get("range", ""), size)


def add_media(router: APIRouter, media: Media) -> None:
    """All under `router`."""

    @router.get(
        "/media/{task_id}",
        summary="The recording of a job, to be played",
        description=documentation.MEDIA,
        responses=documentation.MEDIA_RESPONSES,
        response_class=Response,
    )
    async def recording(request: Request, task_id: str) -> Response:
        return await media.media(request, task_id)

    @router.get(
        "/peaks/{task_id}",
        summary="The waveform of a job's recording",
        responses=documentation.JOB_RESPONSES,
        response_model=PeaksBody,
    )
    async def peaks(request: Request, task_id: str) -> Response:
        return await media.peaks(request, task_id)

    @router.post(
        "/media/{task_id}/link",
        summary="An address of a recording that needs no key for an hour",
        responses=documentation.JOB_RESPONSES,
        response_model=LinkBody,
    )
    async def link(request: Request, task_id: str) -> Response:
        return await media.link(request, task_id)
