"""Holds: the messages in our hands, hidden from others until their jobs have an end.

A message is deleted once the webhook of its job was accepted. If the job failed, or its webhook was
given up, the message goes to the dead letters.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from app.domain.errors import Overloaded, UnknownJob
from app.jobs.deliveries import Delivery, DeliveryState
from app.jobs.job import Job, JobState
from app.jobs.jobs import Jobs
from app.jobs.sqs_queue import Message, QueueUnavailable, SqsQueue

log = logging.getLogger(__name__)

EXTENSIONS = 3  # in a visibility time
TICK_S = 1.0
MAX_HELD = 1000  # most of them wait for a receiver that is down
LONGEST_LOOK_S = 30.0  # between two looks at a webhook that waits for its receiver
CANCELLED = "The job was cancelled."


@dataclass(slots=True)
class Hold:
    """`extended`, `ended`, `next_look`: by the clock of `Holds`. `ended`: when its job was first
    seen to have ended; None: it goes on.
    """

    message: Message
    job_id: str
    extended: float
    next_look: float
    ended: float | None = None
    complained: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a message. `reason` empty: it is deleted; else laid aside for it."""

    reason: str = ""
    code: str = ""


class Holds:
    """`worker`: its name, for the dead letters. `client`: to whom the jobs belong. `dry_run`:
    messages are neither deleted nor laid aside.
    """

    def __init__(
        self,
        queue: SqsQueue,
        jobs: Jobs,
        worker: str,
        client: str = "",
        dry_run: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queue = queue
        self._jobs = jobs
        self._worker = worker
        self._client = client
        self._dry_run = dry_run
        self._clock = clock
        self._changed = threading.Condition()
        self._held: dict[str, Hold] = {}
        self._closing = False

    @property
    def tick_s(self) -> float:
        return min(TICK_S, self._queue.visibility_s / EXTENSIONS / 2)

    def add(self, message: Message, job_id: str) -> None:
        """Hold a message for a job; the same one again comes with a receipt that replaces ours."""
        now = self._clock()
        with self._changed:
            self._held[message.id] = Hold(message, job_id, now, now)
            self._changed.notify_all()

    def wait_for_room(self, num_workers: int) -> int:
        """How many more messages the workers can take; waits until that is one. 0: at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._room(num_workers) > 0)
            return 0 if self._closing else self._room(num_workers)

    def _room(self, num_workers: int) -> int:
        num_working = sum(hold.ended is None for hold in self._held.values())
        return min(num_workers - num_working, MAX_HELD - len(self._held))

    def wait_for_work(self) -> bool:
        """Until it is time for `tick`. False: at the end."""
        with self._changed:
            if self._held:
                self._changed.wait_for(lambda: self._closing, self.tick_s)
            else:
                self._changed.wait_for(lambda: self._closing or bool(self._held))
            return not self._closing

    def stop(self) -> None:
        """Let those who wait go on."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def _all(self) -> list[Hold]:
        with self._changed:
            return list(self._held.values())

    def _drop(self, hold: Hold) -> None:
        with self._changed:
            if self._held.get(hold.message.id) is hold:
                del self._held[hold.message.id]
            self._changed.notify_all()

    # -- while they are held ---------------------------------------------------------------------

    def tick(self) -> None:
        """Extend what is due, and look at the jobs. Raises QueueUnavailable, SQLAlchemyError."""
        self._extend()
        now = self._clock()
        for hold in self._all():
            if hold.next_look <= now:
                self._look(hold, now)

    def _extend(self) -> None:
        now = self._clock()
        due_s = self._queue.visibility_s / EXTENSIONS
        due = {h.message.id: h for h in self._all() if now - h.extended >= due_s}
        if not due:
            return
        for message in self._queue.extend([hold.message for hold in due.values()]):
            log.info("message %s is no longer ours; it comes again", message.id)
            self._drop(due[message.id])
        for hold in due.values():
            hold.extended = now

    def _look(self, hold: Hold, now: float) -> None:
        job = self._find(hold.job_id)
        if job is None:  # somebody deleted it: the message makes a new one
            self._drop(hold)
            self._queue.release(hold.message)
            return
        if not job.state.ended:
            hold.next_look = now + self.tick_s
            return
        self._note_end(hold, now)
        if self._dry_run:
            log.info("message %s stays in the queue: this is a dry run", hold.message.id)
            self._drop(hold)
            return
        verdict = verdict_on(job, self._jobs.deliveries.of_job(job.id))
        if verdict is not None:
            self._settle(hold, job, verdict)

    def _find(self, job_id: str) -> Job | None:
        with suppress(UnknownJob):
            return self._jobs.find(job_id, self._client)
        return None

    def _note_end(self, hold: Hold, now: float) -> None:
        with self._changed:
            if hold.ended is None:
                hold.ended = now
                self._changed.notify_all()
            waited_s = now - hold.ended
            hold.next_look = now + min(max(waited_s / 10, self.tick_s / 4), LONGEST_LOOK_S)

    def _settle(self, hold: Hold, job: Job, verdict: Verdict) -> None:
        try:
            if not verdict.reason:
                self._queue.delete(hold.message)
                log.info("message %s of job %s is done", hold.message.id, job.id)
            else:
                self.lay_aside(hold.message, verdict, str(job.request.details.get("job_id", "")))
        except QueueUnavailable as error:
            self._complain(hold, error)
            return
        self._drop(hold)

    def lay_aside(self, message: Message, verdict: Verdict, sender_job: str = "") -> None:
        """Move a message to the dead letters, if there are any. Raises QueueUnavailable.

        `sender_job`: the ID in the message.
        """
        facts = {
            "Reason": verdict.reason,
            "ErrorCode": verdict.code,
            "JobId": sender_job,
            "Worker": self._worker,
        }
        moved = not self._dry_run and self._queue.lay_aside(message, facts)
        log.warning(
            "message %s of job %s %s: %s", message.id, sender_job or "unknown",
            "goes to the dead letters" if moved else "is left to the queue", verdict.reason,
        )  # fmt: skip

    def _complain(self, hold: Hold, error: QueueUnavailable) -> None:
        if not hold.complained:
            log.error("message %s cannot be settled yet: %s", hold.message.id, error)
        hold.complained = True

    # -- at the end ------------------------------------------------------------------------------

    def release_unstarted(self) -> None:
        """Let others have the messages whose jobs have not begun. The others reappear after their
        visibility time, and join the jobs that this process leaves.
        """
        for hold in self._all():
            try:
                if self._take_back(hold.job_id):
                    self._queue.release(hold.message)
            except (QueueUnavailable, SQLAlchemyError, Overloaded) as error:
                log.warning("message %s is not released: %s", hold.message.id, error)
            self._drop(hold)

    def _take_back(self, job_id: str) -> bool:
        """Remove a job that has not begun, so that it is not done twice. False: it has begun."""
        job = self._find(job_id)
        if job is None:
            return True
        if job.state is not JobState.QUEUED or job.started_at is not None:
            return False
        return self._jobs.store.withdraw(job_id)  # False: it has begun in this moment


def verdict_on(job: Job, deliveries: list[Delivery]) -> Verdict | None:
    """What becomes of the message of a job that has ended. None: its webhook is on its way."""
    last = deliveries[-1] if deliveries else None
    if job.state is JobState.DONE:
        if last is None or last.state is DeliveryState.DELIVERED:
            return Verdict()
        if last.state is DeliveryState.WAITING:
            return None
        return Verdict(f"The webhook was not accepted: {_answer(last)}", "webhook_failed")
    if last is not None and last.state is DeliveryState.WAITING and not last.tries:
        return None  # told first; later tries go on without the message
    if job.state is JobState.CANCELLED:
        return Verdict(CANCELLED, "cancelled")
    return Verdict(job.error or job.error_code, job.error_code)


def _answer(delivery: Delivery) -> str:
    if not delivery.tries:
        return "it was never tried."
    last = delivery.tries[-1]
    return f"status {last.status}." if last.status is not None else last.reason
