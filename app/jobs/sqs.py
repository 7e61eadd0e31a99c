"""The SQS worker: takes messages of a queue as jobs, as many as there are free workers."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from sqlalchemy.exc import DataError, SQLAlchemyError

from app.access.keys import read_keys
from app.config.settings import Settings
from app.config.sqs import ReceiverForm
from app.domain.errors import ConfigurationError, Overloaded, StillAccepting, UnsupportedOption
from app.jobs.audio_urls import AudioPlaces
from app.jobs.job import JobOptions
from app.jobs.jobs import Jobs
from app.jobs.sqs_holds import Holds, Verdict
from app.jobs.sqs_intake import Intake, Terms
from app.jobs.sqs_orders import BadMessage
from app.jobs.sqs_queue import Message, QueueUnavailable, SqsQueue, build_sqs_queue
from app.service.service import Service
from app.storage.egress import EgressRules

log = logging.getLogger(__name__)

LONGEST_PAUSE_S = 60.0
LATER_S = 10  # until a message comes again that cannot be taken now
STOP_S = 2.0  # besides the wait for the answer to the last poll
READY_S = 0.5
BAD_MESSAGE = "bad_message"
UNSTORABLE = "The message holds text that the database cannot keep."


class Outage:
    """One line in the log when something begins to fail, and one when it works again."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._sentence = ""
        self.num_failures = 0

    def failed(self, error: Exception) -> None:
        self.num_failures += 1
        told = isinstance(error, QueueUnavailable | Overloaded)
        sentence = str(error) if told else f"the database cannot be used ({type(error).__name__})"
        if sentence != self._sentence:
            log.error("%s: %s", self._what, sentence)
        self._sentence = sentence

    def over(self) -> None:
        if self.num_failures:
            log.info("%s: works again after %d failures", self._what, self.num_failures)
        self.num_failures = 0
        self._sentence = ""


@dataclass(frozen=True, slots=True)
class Polling:
    """How the queue is asked. `ready`: nothing is taken unless it is set."""

    ready: threading.Event
    num_workers: int
    max_messages: int
    wait_s: int
    interval_s: float


class SqsWorker:
    """Two threads: one asks for messages, one keeps those that we have."""

    def __init__(
        self, queue: SqsQueue, intake: Intake, holds: Holds, polling: Polling, name: str
    ) -> None:
        self._queue = queue
        self._intake = intake
        self._holds = holds
        self._polling = polling
        self._name = name
        self._closing = threading.Event()
        self._poller = threading.Thread(target=self._poll_all, name="sqs-poll", daemon=True)
        self._keeper = threading.Thread(target=self._keep_all, name="sqs-hold", daemon=True)

    def start(self) -> None:
        log.info("worker %s takes messages of %s", self._name, self._queue.url)
        self._keeper.start()
        self._poller.start()

    def close(self) -> None:
        """Take no more messages, and let others have those whose jobs have not begun. Waits for the
        answer to the last poll, because a message in it would be hidden from everybody.
        """
        self._closing.set()
        self._holds.stop()
        self._poller.join(self._polling.wait_s + STOP_S)
        self._keeper.join(STOP_S)
        self._holds.release_unstarted()

    # -- asking ----------------------------------------------------------------------------------

    def _poll_all(self) -> None:
        outage = Outage("polling the queue")
        while not self._closing.is_set():
            if not self._polling.ready.wait(READY_S):
                continue
            try:
                self._poll(outage)
            except Exception:  # without this thread, nothing would be taken any more
                log.exception("polling the queue failed")
                self._closing.wait(self._polling.interval_s)

    def _poll(self, outage: Outage) -> None:
        room = self._holds.wait_for_room(self._polling.num_workers)
        if room <= 0 or not self._takes_messages():
            return
        try:
            self._intake.check()
            messages = self._queue.receive(
                min(room, self._polling.max_messages), self._polling.wait_s
            )
            self._take_all(messages)
        except (QueueUnavailable, SQLAlchemyError, Overloaded) as error:
            outage.failed(error)
            pause_s = self._polling.interval_s * 2 ** min(outage.num_failures - 1, 10)
            self._closing.wait(min(pause_s, max(LONGEST_PAUSE_S, self._polling.interval_s)))
            return
        outage.over()
        if not messages:
            self._closing.wait(self._polling.interval_s)

    def _take_all(self, messages: Sequence[Message]) -> None:
        """As many as can be taken. The others are left to be received again."""
        for i, message in enumerate(messages):
            try:
                self._take(message)
            except (QueueUnavailable, SQLAlchemyError, Overloaded):
                for left in messages[i:]:
                    with suppress(QueueUnavailable):
                        self._queue.release(left)
                raise

    def _takes_messages(self) -> bool:
        return self._polling.ready.is_set() and not self._closing.is_set()

    def _take(self, message: Message) -> None:
        """One that cannot be taken comes again after its visibility time.

        Raises:
            QueueUnavailable, SQLAlchemyError, Overloaded: it is better to wait with the next ones.
        """
        if not self._takes_messages():
            self._queue.release(message)
            return
        try:
            self._holds.add(message, self._intake.accept(message))
        except BadMessage as bad:
            self._holds.lay_aside(message, Verdict(bad.reason, BAD_MESSAGE))
        except DataError:
            self._holds.lay_aside(message, Verdict(UNSTORABLE, BAD_MESSAGE))
        except StillAccepting:
            self._queue.release(message, LATER_S)
        except (QueueUnavailable, SQLAlchemyError, Overloaded):
            raise
        except Exception:  # the boundary of a message
            log.exception("message %s comes again after its visibility time", message.id)

    # -- keeping ---------------------------------------------------------------------------------

    def _keep_all(self) -> None:
        outage = Outage("keeping messages")
        while self._holds.wait_for_work():
            try:
                self._holds.tick()
                outage.over()
            except (QueueUnavailable, SQLAlchemyError, Overloaded) as error:
                outage.failed(error)
            except Exception:  # without this thread, others would take our messages
                log.exception("keeping messages failed")


# -- building ------------------------------------------------------------------------------------


def build_sqs_worker(service: Service, jobs: Jobs | None) -> SqsWorker:
    """Nothing runs yet.

    Raises:
        ConfigurationError: a setting is missing, or the webhook may not be sent.
    """
    settings = service.settings
    if jobs is None:
        raise ConfigurationError("JOBS: worker --sqs needs jobs, which are turned off.")
    queue = build_sqs_queue(settings)
    name = settings.sqs_worker_name
    polling = Polling(
        service.ready,
        settings.job_workers,
        settings.sqs_max_messages,
        settings.sqs_wait_s,
        settings.sqs_poll_interval_s,
    )
    holds = Holds(queue, jobs, name, client_of(settings), settings.sqs_dry_run)
    return SqsWorker(queue, Intake(jobs, build_terms(service)), holds, polling, name)


def build_terms(service: Service) -> Terms:
    settings = service.settings
    rules = EgressRules(settings.egress_allowed_networks)
    places = AudioPlaces(
        settings.s3_allowed_buckets,
        settings.s3_address,
        rules if settings.url_ingest else None,
    )
    return Terms(
        settings.sqs_queue_url,
        places,
        JobOptions(
            model=service.catalog.resolve(settings.asr_model),
            language=settings.default_language,
            diarize=settings.sqs_diarize,
            min_speakers=settings.sqs_min_speakers,
            max_speakers=settings.sqs_max_speakers,
        ),
        "" if settings.sqs_dry_run else webhook_of(settings, rules),
        settings.receiver_form is ReceiverForm.FLAT,
        client_of(settings),
    )


def client_of(settings: Settings) -> str:
    """To whom the jobs of the queue belong.

    Raises:
        ConfigurationError: no key has this name, so nobody would ever see them.
    """
    keys = read_keys(settings)
    if settings.sqs_client and (keys is None or settings.sqs_client not in keys.names):
        raise ConfigurationError("SQS_CLIENT: no key in API_KEYS or API_KEYS_FILE has this name.")
    return settings.sqs_client


def webhook_of(settings: Settings, rules: EgressRules) -> str:
    """Where the end of jobs is announced.

    Raises:
        ConfigurationError: nowhere, or where it may not be, so that every message would fail.
    """
    url = settings.receiver_webhook
    if not url:
        raise ConfigurationError("NODE_API_URL: worker --sqs needs the server to report to.")
    if not settings.webhook_secret.get_secret_value():
        log.warning("WEBHOOK_SECRET is empty: webhooks go without an Authorization header")
    try:
        rules.check_url(url, "NODE_API_URL")
        _check_addresses(url, rules)
    except UnsupportedOption as error:
        raise ConfigurationError(
            f"{error.message} Set EGRESS_ALLOWED_NETWORKS to its address or network."
        ) from None
    return url


def _check_addresses(url: str, rules: EgressRules) -> None:
    parts = urlsplit(url)
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_STREAM)
    except OSError:  # perhaps it is not there yet
        return
    addresses = [str(address[0]) for *_, address in found]
    if not any(map(rules.permits, addresses)):
        raise UnsupportedOption(f"NODE_API_URL: its address {addresses[0]} is not public.")
