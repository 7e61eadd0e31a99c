"""The jobs' part of the object graph."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path

import sqlalchemy as sa

from app.config.settings import Settings
from app.domain.errors import ConfigurationError
from app.domain.transcript import Transcript
from app.engine.work import Work
from app.jobs.buckets import build_buckets, build_s3, build_uploads
from app.jobs.database import Database
from app.jobs.deliveries import Deliveries
from app.jobs.door import UnknownDoors
from app.jobs.doors.enqueue import ENQUEUE, EnqueueDoor
from app.jobs.doors.rest import RestDoor
from app.jobs.doors.sqs import SqsDoor
from app.jobs.executors import Executors
from app.jobs.figures import Figures
from app.jobs.history import History
from app.jobs.job import Job, Source, Url
from app.jobs.jobs import Jobs
from app.jobs.keeper import Keeper
from app.jobs.lookout import Lookout
from app.jobs.posting import Poster
from app.jobs.queue import JobQueue
from app.jobs.rescue import Rescue
from app.jobs.retention import Retention
from app.jobs.runner import Runner, RunnerOptions
from app.jobs.runs import Runs
from app.jobs.signing import check_secret
from app.jobs.sources import Fetch, Sources
from app.jobs.store import JobStore
from app.service.service import Service
from app.storage.egress import EgressRules
from app.storage.fetch import Fetcher
from app.storage.tempdir import PrivateDirectory, check_writable

log = logging.getLogger(__name__)


def build_jobs(service: Service) -> Jobs | None:
    """The jobs of a service; None if they are off. Nothing runs yet.

    A data directory that cannot be written turns them off, too, unless JOBS is set: a deployment
    from before there were jobs has none.

    Raises:
        ConfigurationError: the data directory or the database cannot be used.
    """
    settings = service.settings
    if not settings.jobs:
        return None
    try:
        with suppress(OSError):  # what follows tells of it
            settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_writable(settings.data_dir, "DATA_DIR")
    except ConfigurationError as error:
        if "jobs" in settings.model_fields_set:
            raise
        log.warning("jobs are off; JOBS=true makes this an error: %s", error)
        return None
    return _build(service, settings)


def _build(service: Service, settings: Settings) -> Jobs:
    database = Database(settings.database_url.get_secret_value(), settings.data_dir)
    executors = Executors(database, settings.data_dir / "executors", settings.job_takeover_s)
    queue = JobQueue(database, executors.id)
    store = JobStore(database, queue, executors.id, settings.max_jobs)
    s3 = build_s3(settings)
    uploads = build_uploads(settings, s3, service.temp.min_free_bytes)
    buckets = build_buckets(settings, s3, service.temp.min_free_bytes)
    sources = Sources(
        uploads,
        service.temp,
        build_url_fetch(settings, service.temp),
        buckets.fetch if buckets else None,
    )
    doors = UnknownDoors(rest=RestDoor(), sqs=SqsDoor())
    if buckets is not None:
        doors[ENQUEUE] = EnqueueDoor(buckets, settings.webhook_url)
    deliveries = build_deliveries(service, database, queue)

    def ending(connection: sa.Connection, job: Job, transcript: Transcript | None) -> None:
        """What else happens in the transaction that ends a job."""
        door = doors.get(job.request.door)  # none of a door that this process lacks
        notice = door.notice(job, transcript) if door is not None else None
        if notice is not None:
            deliveries.add(connection, job, notice)

    def clean() -> None:
        retention.clean()
        deliveries.requeue_lost()
        store.keys.give_back()
        if num_removed := uploads.sweep(store.uploads_in_use):
            log.warning("removed %d uploads of which the database knows nothing", num_removed)

    service.metrics.show_jobs(Figures(store.counts))
    runs = Runs(database, queue, executors.id, ending, executors.living)
    rescue = Rescue(database, executors)
    retention = Retention(store, sources, settings.job_keep_days)
    keeper = Keeper(executors, queue, runs, rescue, settings.job_takeover_s, clean)
    options = RunnerOptions(
        settings.job_timeout_s, settings.job_max_attempts, settings.job_retry_s,
        settings.job_workers,
    )  # fmt: skip
    runner = Runner(service, store, runs, keeper, sources, doors, options)
    lookout = Lookout(database, queue, runs, runner.crew)
    return Jobs(
        store, History(database), queue, executors, keeper, runner, lookout, retention, uploads,
        deliveries,
    )  # fmt: skip


def egress_rules(settings: Settings) -> EgressRules:
    """Where URLs of clients may lead."""
    return EgressRules(settings.egress_allowed_networks)


def build_deliveries(service: Service, database: Database, queue: JobQueue) -> Deliveries:
    settings = service.settings
    return Deliveries(
        database,
        queue,
        Poster(egress_rules(settings), settings.webhook_timeout_s),
        check_secret(settings.webhook_secret.get_secret_value()),
        [float(delay) for delay in settings.webhook_retry_delays],
        ended=service.metrics.webhook_ended,
    )


def build_url_fetch(settings: Settings, temp: PrivateDirectory) -> Fetch | None:
    """None if URLs are not accepted."""
    if not settings.url_ingest:
        return None
    fetcher = Fetcher(egress_rules(settings), settings.url_timeout_s, temp.min_free_bytes)
    max_bytes = settings.max_file_size_mb << 20

    def fetch(source: Source, path: Path, work: Work) -> None:
        assert isinstance(source, Url)
        fetcher.fetch(source.url, path, work, max_bytes, settings.max_duration_s)

    return fetch
