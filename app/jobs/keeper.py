"""Keeper: the thread that tells others of a process's jobs, and takes over those of the dead."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy.exc import SQLAlchemyError

from app.domain.errors import Cancelled, ServiceError, ShuttingDown
from app.engine.work import Work
from app.jobs.executors import Executors
from app.jobs.job import JobStep
from app.jobs.queue import JobQueue
from app.jobs.rescue import Rescue
from app.jobs.run import Progress, Run
from app.jobs.runs import Runs
from app.pipeline.flow import RECOGNIZED
from app.pipeline.transcriber import ALIGNED

log = logging.getLogger(__name__)

TICK_S = 1.0
BEATS = 4  # heartbeats in the time after which a process counts as dead
RETENTION_S = 600.0
RESCUE_S = 10.0
CANCELLED = "The job was cancelled."
SUPERSEDED = "Another process has taken over this job."


class Watch:
    """A run in this process. `step`: set by the runner, refined by the progress of its work."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.step = JobStep.FETCH
        self.work: Work | None = None
        self.audio_s: float | None = None
        self.cancel_requested = False
        self.superseded = False
        self.handed_over = False

    def progress(self) -> Progress:
        share = self.work.progress if self.work is not None else 0.0
        step = self.step
        if step is JobStep.DECODE and share > 0:
            step = self._by_share(share)
        return Progress(step, min(share, 0.99) * 100, self.audio_s)

    def _by_share(self, share: float) -> JobStep:
        if share < RECOGNIZED:
            return JobStep.RECOGNIZE
        diarize = self.run.job.request.options.diarize
        return JobStep.DIARIZE if share >= ALIGNED and diarize else JobStep.ALIGN

    def cancel(self, superseded: bool = False) -> None:
        self.superseded = self.superseded or superseded
        self.cancel_requested = True
        if self.work is not None:
            self.work.cancel(Cancelled(SUPERSEDED if superseded else CANCELLED))

    def hand_over(self) -> None:
        """End the run because its process ends."""
        self.handed_over = True
        if self.work is not None:
            self.work.cancel(ShuttingDown())


class Keeper:
    """Heartbeats, progress, requests to cancel, jobs of dead processes, and what is too old."""

    def __init__(
        self,
        executors: Executors,
        queue: JobQueue,
        runs: Runs,
        rescue: Rescue,
        takeover_s: float,
        clean: Callable[[], None],
    ) -> None:
        self._executors = executors
        self._queue = queue
        self._runs = runs
        self._rescue = rescue
        self._beat_s = takeover_s / BEATS
        self._lock = threading.Condition()
        self._watches: dict[str, Watch] = {}
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._loop, args=work, name=f"job-{name}", daemon=True)
            for name, *work in (
                ("keeper", self._tick, TICK_S),
                ("retention", clean, RETENTION_S),  # may take long, and heartbeats must not wait
            )
        ]
        self._beaten = -float("inf")
        self._rescued = time.monotonic()
        self._reachable = True

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    @contextmanager
    def watching(self, run: Run) -> Iterator[Watch]:
        """Keep a run's progress in the database until the block ends."""
        watch = Watch(run)
        with self._lock:
            self._watches[run.id] = watch
        try:
            yield watch
        finally:
            with self._lock:
                del self._watches[run.id]
                self._lock.notify_all()

    def cancel(self, job_id: str) -> None:
        """Cancel a job's run at once if it is in this process."""
        for watch in self._running():
            if watch.run.job.id == job_id:
                watch.cancel()

    def close(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(TICK_S)

    def hand_over(self, patience_s: float) -> list[Run]:
        """End all runs of this process. Those that have not ended in time."""
        for watch in self._running():
            watch.hand_over()
        with self._lock:
            self._lock.wait_for(lambda: not self._watches, patience_s)
        return [watch.run for watch in self._running()]

    def _running(self) -> list[Watch]:
        with self._lock:
            return list(self._watches.values())

    def _loop(self, work: Callable[[], None], interval_s: float) -> None:
        while not self._stopping.is_set():
            try:
                work()
                self._reachable = True
            except (ServiceError, SQLAlchemyError) as error:
                self._complain(error)
            except Exception:  # without these threads, others would take its jobs
                log.exception("the keeper of the jobs failed")
            self._stopping.wait(interval_s)

    def _complain(self, error: Exception) -> None:
        if self._reachable and not self._stopping.is_set():
            log.error("the database of the jobs cannot be used: %s", error)
        self._reachable = False

    def _tick(self) -> None:
        now = time.monotonic()
        if now - self._beaten >= self._beat_s:
            self._executors.beat()
            self._queue.take_over(self._executors.living)
            self._beaten = now
        self._tell()
        if now - self._rescued >= RESCUE_S:
            self._rescued = now
            for job_id in self._rescue.let_go({watch.run.id for watch in self._running()}):
                log.warning("job %s was worked on by nobody, and is begun again", job_id)

    def _tell(self) -> None:
        watches = {watch.run.id: watch for watch in self._running()}
        if not watches:
            return
        told = self._runs.tell((watch.run, watch.progress()) for watch in watches.values())
        running = {watch.run.id for watch in self._running()}
        for run_id, watch in watches.items():
            if run_id not in told and run_id in running:
                watch.cancel(superseded=True)
            elif told.get(run_id):
                watch.cancel()
