"""The queue: who works on what next, on which process. The only module that knows DBOS.

DBOS keeps the queue in tables of its own, beside ours and in the same transactions. Only names and
IDs are in it; what they stand for is in our tables.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from dbos import DBOS, DBOSClient, DBOSConfig, EnqueueOptions, Serializer

from app.jobs.database import Database

log = logging.getLogger(__name__)

APPLICATION = "whisperx-asr"
# Constant: DBOS leaves what another version has queued to that version.
VERSION = "1"
POLL_S = 0.25
NOTIFICATIONS_S = 0.9  # we use none, but the end waits for the thread that looks for them
WORKFLOW = "work_on"
PENDING = "PENDING"
MAX_PRIORITY = 2**31 - 1

Handler = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Worker:
    """What is done with the items of a queue. `handle` must not raise. `poll_s`: how often the
    queue is looked at, which costs some CPU even if it is empty.
    """

    handle: Handler
    num_threads: int
    poll_s: float = POLL_S


class JsonSerializer(Serializer):
    """DBOS's own is pickle: whoever can write to the database could run code in our processes."""

    def serialize(self, data: Any) -> str:
        return json.dumps(data, default=repr)

    def deserialize(self, serialized_data: str) -> Any:
        return json.loads(serialized_data)

    def name(self) -> str:
        return "json"


_workers: dict[str, Worker] = {}  # DBOS has one registry for each process


@DBOS.workflow(name=WORKFLOW)
def _work_on(queue: str, item: str) -> None:
    _workers[queue].handle(item)


class JobQueue:
    """Named queues of items, shared by all processes that use the database."""

    def __init__(self, database: Database, executor: str) -> None:
        self._database = database
        self._executor = executor
        self._client: DBOSClient | None = None

    def start(self, workers: Mapping[str, Worker]) -> None:
        """Begin to work on the queues."""
        _workers.update(workers)
        config: DBOSConfig = {
            "name": APPLICATION,
            "system_database_engine": self._database.engine,
            "application_version": VERSION,
            "executor_id": self._executor,
            "serializer": JsonSerializer(),
            "use_listen_notify": False,
            "log_level": "WARNING",
            "notification_listener_polling_interval_sec": NOTIFICATIONS_S,
        }
        _quiet()
        DBOS(config=config)
        DBOS.launch()
        self._client = DBOSClient(
            system_database_engine=self._database.engine,
            serializer=JsonSerializer(),
            application_name=APPLICATION,
        )
        for name, worker in workers.items():
            DBOS.register_queue(
                name,
                worker_concurrency=worker.num_threads,
                polling_interval_sec=worker.poll_s,
                on_conflict="always_update",
            )

    def add(
        self,
        connection: sa.Connection,
        queue: str,
        item: str,
        priority: int = 1,
        delay_s: float = 0.0,
    ) -> None:
        """Queue an item in a transaction of the caller. Lower priorities go first."""
        assert self._client is not None
        options: EnqueueOptions = {
            "workflow_name": WORKFLOW,
            "queue_name": queue,
            "workflow_id": f"{item}.{uuid.uuid4().hex[:8]}",
            "app_version": VERSION,
            "priority": min(max(priority, 1), MAX_PRIORITY),
        }
        if delay_s > 0:
            options["delay_seconds"] = delay_s
        self._client.enqueue_in_transaction(connection, options, queue, item)

    def take_over(self, living: Collection[str]) -> int:
        """Queue again what processes work on that no longer live. Returns how many items."""
        taken = 0
        for status in DBOS.list_workflows(
            status=PENDING, name=WORKFLOW, load_input=False, load_output=False
        ):
            if status.executor_id in living or status.queue_name is None:
                continue
            log.warning("taking over %s from a process that ended", status.workflow_id)
            DBOS.resume_workflow(status.workflow_id, queue_name=status.queue_name)
            taken += 1
        return taken

    def forget(self, items: Collection[str]) -> None:
        """Remove what the queue still knows about items that are no longer needed."""
        prefixes = [f"{item}." for item in items]
        found = DBOS.list_workflows(
            workflow_id_prefix=prefixes, load_input=False, load_output=False
        )
        if found:
            DBOS.delete_workflows([status.workflow_id for status in found])

    def close(self) -> None:
        """Stop working on the queues. What runs is not waited for."""
        if self._client is not None:
            DBOS.destroy()
            self._client.destroy()
            self._client = None


def _quiet() -> None:
    """Let DBOS's warnings be lines of our log, and leave out the rest."""
    logger = logging.getLogger("dbos")
    logger.addHandler(logging.NullHandler())  # else it brings one of its own
    logger.propagate = True
