"""Intake: the job of a message, a new one or the one that the same order has already."""

from __future__ import annotations

from dataclasses import dataclass

from app.domain.errors import UnsupportedOption
from app.formats.orator import Order
from app.jobs.audio_urls import AudioPlaces, file_name
from app.jobs.deliveries import DeliveryState
from app.jobs.doors.sqs import SQS, details_of
from app.jobs.idempotency import Idempotency
from app.jobs.job import Job, JobOptions, JobRequest, JobState, Source, Url, WebhookTarget
from app.jobs.jobs import Jobs
from app.jobs.signing import ORATOR
from app.jobs.sqs_orders import BadMessage, key_of, read_order
from app.jobs.sqs_queue import Message

ACCOUNT = "sqs"  # its turn in the queue, beside those of other clients


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for all messages of a queue. `webhook`: empty: nobody is told. `client`: to whom
    the jobs belong; empty: to those who need no key.
    """

    queue_url: str
    places: AudioPlaces
    options: JobOptions
    webhook: str = ""
    flat: bool = False
    client: str = ""


class Intake:
    def __init__(self, jobs: Jobs, terms: Terms) -> None:
        self._jobs = jobs
        self._terms = terms

    def check(self) -> None:
        """Raises Overloaded: no message can be taken now. Also because the database is gone."""
        self._jobs.store.check_room()

    def accept(self, message: Message) -> str:
        """The ID of the message's job. That of a message with a mistake has failed already, so that
        its sender is told.

        Raises:
            BadMessage: it does not even say whose job it is.
            StillAccepting, Overloaded: later.
        """
        try:
            ordered = read_order(message.body, self._terms.places)
        except BadMessage as bad:
            if bad.order is None:
                raise
            return self._refused(message, bad.order, bad.reason)
        request = self._request(message, ordered.order, ordered.source).model_copy(
            update={"metadata": ordered.metadata, "file_name": file_name(ordered.source)}
        )
        same = self._same(ordered.order, ordered.source)
        job, is_new = self._jobs.store.keys.once(
            request.client, same.key, lambda: self._jobs.submit(request, same)
        )
        if not is_new:
            self._join(job, message)
        return job.id

    def _refused(self, message: Message, order: Order, reason: str) -> str:
        request = self._request(message, order, Url(url=""))
        same = self._same(order, reason)
        error = UnsupportedOption(reason)
        job, _ = self._jobs.store.keys.once(
            request.client, same.key, lambda: self._jobs.refuse(request, error, same)
        )
        return job.id

    def _request(self, message: Message, order: Order, source: Source) -> JobRequest:
        terms = self._terms
        return JobRequest(
            client=terms.client,
            account=ACCOUNT,
            door=SQS,
            source=source,
            options=terms.options,
            webhook=WebhookTarget(url=terms.webhook, form=ORATOR) if terms.webhook else None,
            details=details_of(order, message.id, terms.flat),
        )

    def _same(self, order: Order, what: Source | str) -> Idempotency:
        """Where nobody is told, the job is not the one of which somebody will be."""
        place = self._terms.queue_url if self._terms.webhook else f"dry {self._terms.queue_url}"
        key = key_of(place, order, what)
        return Idempotency(key, key.partition(":")[2])

    def _join(self, job: Job, message: Message) -> None:
        """A message that reappears waits for its job. Another one for a job that failed is a new
        request, such as one that was moved back from the dead letters.
        """
        if job.state in (JobState.FAILED, JobState.CANCELLED):
            if job.request.details.get("message_id") != message.id:
                self._jobs.retry(job.id, self._terms.client, {"message_id": message.id})
        elif job.state is JobState.DONE:
            deliveries = self._jobs.deliveries.of_job(job.id)
            if deliveries and deliveries[-1].state is DeliveryState.FAILED:
                self._jobs.deliveries.resend(job.id)
