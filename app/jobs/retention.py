"""Retention: removes jobs that ended long ago, with all that belongs to them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from app.domain.errors import ServiceError
from app.jobs.job import Job
from app.jobs.sources import Sources
from app.jobs.store import JobStore

log = logging.getLogger(__name__)

BATCH = 100
A_DAY_S = 86_400.0


class Retention:
    def __init__(
        self,
        store: JobStore,
        sources: Sources,
        keep_days: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._sources = sources
        self._keep_s = keep_days * A_DAY_S
        self._clock = clock

    def clean(self) -> None:
        """Remove what has expired."""
        removed = 0
        while expired := self._store.expired(self._clock() - self._keep_s, BATCH):
            for job in expired:
                self.remove(job)
            removed += len(expired)
        if removed:
            log.info("removed %d jobs that ended more than %.0f s ago", removed, self._keep_s)

    def remove(self, job: Job) -> None:
        """Remove an ended job: its upload, its transcript and what the queue knows."""
        if self._store.delete(job.id):  # else it is tried again meanwhile
            self.discard_upload(job)
            self._store.queue.forget([job.id])

    def discard_upload(self, job: Job) -> None:
        """Delete the upload of a job that does not need it any more."""
        try:
            self._sources.discard(job.request.source)
        except (ServiceError, OSError) as error:  # the bucket is gone; the upload stays there
            log.warning("the upload of job %s is left behind: %s", job.id, error)
