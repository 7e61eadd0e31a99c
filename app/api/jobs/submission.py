"""How a recording becomes a job: received like that of /asr, then kept until its turn."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from app.api.forms import SHOWN
from app.api.intake import Intake, admitted, ignored_headers, resolve_model
from app.api.jobs.bodies import CREATED
from app.api.jobs.desk import Desk
from app.api.jobs.parameters import JOB_FORM, Rules, Submission, parse_submission
from app.api.jobs.synchronous import (
    SynchronousRequest,
    answer_synchronously,
    is_synchronous,
    parse_synchronous,
)
from app.api.parameters import merge_parameters
from app.api.rate_limits import account_of
from app.api.request_state import client_name, record_of
from app.api.uploads import Upload
from app.domain.errors import ServiceError, UnsupportedOption
from app.jobs.idempotency import Idempotency
from app.jobs.job import Job, JobRequest, JobState, Source, WebhookTarget
from app.jobs.jobs import Jobs
from app.service.service import Service

KIND = "submission"
DOOR = "rest"
KEY_HEADER = "Idempotency-Key"
MAX_FILE_NAME = 255


@dataclass(frozen=True, slots=True)
class Reception:
    """Accepts jobs over HTTP."""

    service: Service
    jobs: Jobs
    desk: Desk
    rules: Rules

    async def accept(self, request: Request, prefix: str) -> Response:
        """The answer to a request for a job. `prefix`: of the addresses that it uses."""
        async with self._reserved(request) as earlier:
            admitting = admitted(
                self.service, request, KIND, JOB_FORM, lambda fields: self._parse(request, fields)
            )
            async with admitting as intake:
                wanted, upload = intake.wanted, intake.upload
                if isinstance(wanted, SynchronousRequest):
                    check_file(upload)
                    return await answer_synchronously(intake, wanted)
                job = await self._job(request, intake, wanted, earlier)
                not_kept = wanted.keep_audio and not self._keeps(upload, wanted)
                ignored = (*wanted.ignored, *(["keep_audio"] if not_kept else []))
                headers = ignored_headers(ignored, upload.dropped)
        location = f"{request.scope.get('root_path', '')}{prefix}/status/{job.id}"
        # The same for a repeated request, whatever has become of the job.
        body = {"task_id": job.id, "status": JobState.QUEUED, "message": CREATED}
        return JSONResponse(body, 202, {**headers, "Location": location})

    @asynccontextmanager
    async def _reserved(self, request: Request) -> AsyncIterator[Job | None]:
        """Holds the request's idempotency key, if it has one. The job that came with it before."""
        key, client = request.headers.get(KEY_HEADER), client_name(request.scope)
        if key is None:
            yield None
            return
        earlier = await self.desk.ask(lambda: self.jobs.store.keys.reserve(client, key))
        try:
            yield earlier
        finally:
            if earlier is None:  # no effect on a key that a job has got
                self.jobs.store.keys.give_up(client, key)
                with suppress(ServiceError):  # it is tried again
                    await self.desk.ask(self.jobs.store.keys.give_back)

    def _parse(
        self, request: Request, fields: Mapping[str, list[str]]
    ) -> Submission | SynchronousRequest:
        given = merge_parameters(fields, request.query_params)
        if is_synchronous(given):
            return parse_synchronous(self.service, request, given)
        wanted = parse_submission(given, self.rules)
        model = record_of(request).model = resolve_model(self.service, wanted.options.model)
        return replace(wanted, options=wanted.options.model_copy(update={"model": model}))

    async def _job(
        self, request: Request, intake: Intake[Any], wanted: Submission, earlier: Job | None
    ) -> Job:
        upload = intake.upload
        if upload.has_file and wanted.url:
            raise UnsupportedOption("url: not allowed beside a file.")
        if not wanted.url:
            check_file(upload)
        same = await self._idempotency(request, upload, wanted)
        if earlier is not None and same is not None:
            client = client_name(request.scope)
            await self.desk.ask(lambda: self.jobs.store.keys.check_payload(client, same))
            return earlier

        def submit() -> Job:
            if wanted.url:
                source = self.rules.source_at(wanted.url)
                return self.jobs.submit(self._described(request, upload, wanted, source), same)
            with self.jobs.keeping(upload.file.path) as source:
                return self.jobs.submit(self._described(request, upload, wanted, source), same)

        return await intake.run(submit)

    def _described(
        self, request: Request, upload: Upload, wanted: Submission, source: Source
    ) -> JobRequest:
        return JobRequest(
            client=client_name(request.scope),
            account=account_of(request.scope),
            door=DOOR,
            source=source,
            options=wanted.options,
            output=wanted.output.name,
            file_name=_file_name(upload.file_name or wanted.url),
            metadata=wanted.metadata,
            webhook=WebhookTarget(url=wanted.callback_url) if wanted.callback_url else None,
            priority=wanted.priority,
            keep_audio=self._keeps(upload, wanted),
        )

    def _keeps(self, upload: Upload, wanted: Submission) -> bool:
        """Whether the recording is kept with its transcript."""
        max_bytes = self.service.settings.job_keep_audio_mb << 20
        return wanted.keep_audio and not wanted.url and upload.num_bytes <= max_bytes

    async def _idempotency(
        self, request: Request, upload: Upload, wanted: Submission
    ) -> Idempotency | None:
        key = request.headers.get(KEY_HEADER)
        if key is None:
            return None
        digest = upload.digest or await asyncio.to_thread(_digest, upload.file.path)
        return Idempotency(key, _payload(wanted, digest))


def check_file(upload: Upload) -> None:
    """Raises UnsupportedOption if the form had no recording."""
    if not upload.has_file:
        sent = f", not {upload.dropped[0][:SHOWN]}" if upload.dropped else ""
        raise UnsupportedOption(
            f"{JOB_FORM.file_field}: required, a multipart file field of this name{sent}; e.g. "
            f"curl -F {JOB_FORM.file_field}=@speech.mp3"
        )


async def answer_without_jobs(service: Service, request: Request) -> Response | None:
    """The synchronous answer where jobs are turned off; None if the request asks for a job."""

    def parse(fields: Mapping[str, list[str]]) -> SynchronousRequest | None:
        given = merge_parameters(fields, request.query_params)
        return parse_synchronous(service, request, given) if is_synchronous(given) else None

    async with admitted(service, request, KIND, JOB_FORM, parse) as intake:
        if intake.wanted is None:
            return None
        check_file(intake.upload)
        return await answer_synchronously(intake, intake.wanted)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _payload(wanted: Submission, digest: str) -> str:
    """What a request asks for, as a hash: equal for all that get the same."""
    asked = [
        digest,
        wanted.options.model_dump(mode="json"),
        wanted.output.name,
        wanted.url,
        wanted.callback_url,
        wanted.metadata,
        wanted.priority,
        *(["keep_audio"] if wanted.keep_audio else []),  # hashes of earlier versions hold
    ]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _file_name(sent: str) -> str:
    """A name of the client, which is only ever shown. Of a URL, its last part."""
    name = sent.partition("?")[0].rsplit("/", 1)[-1] if "://" in sent else sent
    return name.replace("\x00", "")[:MAX_FILE_NAME]
