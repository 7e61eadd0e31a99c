"""Steps: a job's run from its source to its published result. Raises whatever fails on the way."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TypeVar

from app.domain.errors import Cancelled, DatabaseUnavailable, ServiceError
from app.domain.transcript import Transcript
from app.jobs.database import patiently
from app.jobs.door import Door
from app.jobs.job import JobState, JobStep
from app.jobs.keeper import CANCELLED, Watch
from app.jobs.kept_audio import Keeping, is_wanted
from app.jobs.run import Run
from app.jobs.runs import Runs
from app.jobs.sources import Sources
from app.jobs.store import JobStore
from app.service.calls import Call
from app.service.recording import Recording

log = logging.getLogger(__name__)

T = TypeVar("T")


class Steps:
    def __init__(
        self,
        store: JobStore,
        runs: Runs,
        sources: Sources,
        doors: Mapping[str, Door],
        give_up: Callable[[], bool],
    ) -> None:
        """`give_up`: whether to wait no longer for a database that cannot be reached."""
        self._store = store
        self._runs = runs
        self._sources = sources
        self._doors = doors
        self._give_up = give_up

    def take(self, run: Run, watch: Watch, call: Call) -> None:
        """All steps that are left of a run. A transcript of an earlier run is used again.

        Raises:
            ServiceError: a step failed, or the job was cancelled.
            Superseded: another process has taken the job over.
        """
        job = run.job
        transcript = self._transcript(run, watch, call)
        watch.step = JobStep.STORE
        published = self._doors[job.request.door].publish(job, transcript, call.work)
        call.work.check()
        watch.step = JobStep.NOTIFY
        seconds = call.elapsed_s
        ended = self._patiently(lambda: self._runs.succeed(run, transcript, published, seconds))
        if ended.state is JobState.CANCELLED:
            raise Cancelled(CANCELLED)

    def _patiently(self, write: Callable[[], T]) -> T:
        return patiently(write, self._give_up)

    def _transcript(self, run: Run, watch: Watch, call: Call) -> Transcript:
        """The transcript, perhaps of an earlier run, once the recording is kept with it."""
        transcript = self._patiently(lambda: self._store.transcript(run.job.id))
        if transcript is None:
            return self._transcribe(run, watch, call)
        if is_wanted(run.job.request) and not run.job.media_type:
            self._keep_later(run, call)
        return transcript

    def _transcribe(self, run: Run, watch: Watch, call: Call) -> Transcript:
        request = run.job.request
        options = request.options
        call.model = options.model
        with self._sources.open(request.source, call.work) as path:
            watch.step = JobStep.DECODE
            recording = Recording(path, audio_track=options.audio_track)
            keeping = Keeping(request, recording, self._sources.uploads)
            transcript = call.transcribe(
                recording,
                options.transcribe_options(),
                by_channel=options.by_channel,
                on_audio=keeping.look,
            )
            watch.audio_s = transcript.duration_s
            self._patiently(lambda: self._runs.keep(run, transcript, keeping.peaks))
            self._keep_audio(run, call, keeping)
            return transcript

    def _keep_audio(self, run: Run, call: Call, keeping: Keeping) -> None:
        kept = keeping.keep(call) if keeping.wanted else None
        if kept is not None:
            self._patiently(lambda: self._runs.keep_audio(run, kept))

    def _keep_later(self, run: Run, call: Call) -> None:
        """What an interrupted run has not come to. A failure costs nobody the transcript."""
        request = run.job.request
        try:
            with self._sources.open(request.source, call.work) as path:
                recording = Recording(path, audio_track=request.options.audio_track)
                self._keep_audio(run, call, Keeping(request, recording, self._sources.uploads))
        except DatabaseUnavailable:
            raise
        except (ServiceError, OSError) as error:
            call.work.check()
            log.warning("the recording of job %s cannot be kept: %s", run.job.id, error)
