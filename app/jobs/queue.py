"""The queue: who works on what next, on which process. The only module that knows DBOS.

DBOS keeps the queue in tables of its own, beside ours and in the same transactions. Only names and
IDs are in it; what they stand for is in our tables. Its threads run only while there is something
to do (`work`, `rest`).
"""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from dbos import DBOS, DBOSClient, DBOSConfig, EnqueueOptions, Serializer

from app.domain.errors import ShuttingDown
from app.jobs.database import Database, told_when_unreachable

log = logging.getLogger(__name__)

APPLICATION = "whisperx-asr"
# Constant: DBOS leaves what another version has queued to that version.
VERSION = "1"
POLL_S = 1.0
SCHEDULES_S = 3600.0  # there are none
NOTIFICATIONS_S = 0.9  # we use none, but the end waits for the thread that looks for them
WORKFLOW = "work_on"
PENDING = "PENDING"
WAITING = "ENQUEUED"
REPEAT_S = 60.0  # DBOS complains at each poll
NOISE = ("applicationID", "applicationVersion", "executorID")
CLOSE_S = 5.0  # it waits for threads that may try to reach the database
MAX_PRIORITY = 2**31 - 1

Handler = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Worker:
    """What is done with the items of a queue. `handle` must not raise. `poll_s`: how often the
    queue is looked at. It and `num_threads` are the same in all processes: DBOS keeps them in the
    database, and takes those of the process that started last.
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
        self._names: list[str] = []
        self._changing = threading.Lock()  # whether its threads run
        self._works = False
        self._closing = False
        self._called = threading.Event()

    def start(self, workers: Mapping[str, Worker]) -> None:
        """Begin to work on the queues."""
        _workers.update(workers)
        self._names = list(workers)
        _quiet()
        self.work()
        self._client = DBOSClient(
            system_database_engine=self._database.engine,
            serializer=JsonSerializer(),
            application_name=APPLICATION,
            retry_connection_errors=False,
        )
        for name, worker in workers.items():
            DBOS.register_queue(
                name,
                worker_concurrency=worker.num_threads,
                polling_interval_sec=worker.poll_s,
                on_conflict="always_update",
            )

    @property
    def works(self) -> bool:
        """Whether items are given to the workers."""
        return self._works

    def work(self) -> None:
        """Give items to the workers. Not after `close`."""
        with self._changing:
            if self._works or self._closing:
                return
            self._works = True
            try:
                self._launch()
            except BaseException:
                self._works = False
                DBOS.destroy()
                raise

    def rest(self) -> None:
        """Give no items to the workers until `work`. What is added meanwhile waits.

        An item that is given in this very moment is given again then, as after a sudden end.
        """
        with self._changing:
            if self._works:
                self._works = False
                DBOS.destroy()

    def _launch(self) -> None:
        config: DBOSConfig = {
            "name": APPLICATION,
            "system_database_engine": self._database.engine,
            "application_version": VERSION,
            "executor_id": self._executor,
            "serializer": JsonSerializer(),
            "use_listen_notify": False,
            "log_level": "WARNING",
            "notification_listener_polling_interval_sec": NOTIFICATIONS_S,
            "scheduler_polling_interval_sec": SCHEDULES_S,
        }
        DBOS(config=config)
        # those of a newer version are not for this one
        DBOS.listen_queues(self._names)
        DBOS.launch()

    def wake(self) -> None:
        """Tell whoever is in `wait_for_call` that there is something to do."""
        self._called.set()

    def wait_for_call(self, timeout_s: float) -> None:
        """Until `wake`, or until something is added."""
        self._called.wait(timeout_s)

    def was_called(self) -> bool:
        """Whether there was a call since this was asked the last time."""
        if not self._called.is_set():
            return False  # nothing is cleared: a call may come in this moment
        self._called.clear()
        return True

    def is_empty(self) -> bool:
        """Whether nothing waits that could be given to a worker now."""
        with told_when_unreachable():
            found = self._opened.list_workflows(
                status=WAITING, name=WORKFLOW, limit=1, load_input=False, load_output=False
            )
        return not found

    def add(
        self,
        connection: sa.Connection,
        queue: str,
        item: str,
        priority: int = 1,
        delay_s: float = 0.0,
    ) -> None:
        """Queue an item in a transaction of the caller. Lower priorities go first."""
        options: EnqueueOptions = {
            "workflow_name": WORKFLOW,
            "queue_name": queue,
            "workflow_id": f"{item}.{uuid.uuid4().hex[:8]}",
            "app_version": VERSION,
            "priority": min(max(priority, 1), MAX_PRIORITY),
        }
        if delay_s > 0:
            options["delay_seconds"] = delay_s
        self._opened.enqueue_in_transaction(connection, options, queue, item)
        self.wake()

    @property
    def _opened(self) -> DBOSClient:
        if self._client is None:
            raise ShuttingDown
        return self._client

    def take_over(self, living: Callable[[], Collection[str]]) -> int:
        """Queue again what processes work on that no longer live. Returns how many items. Has
        this process look if any items wait: whoever queued them may have died since.

        Raises:
            DatabaseUnavailable
        """
        taken = 0
        with told_when_unreachable():
            running = self._opened.list_workflows(
                status=PENDING, name=WORKFLOW, load_input=False, load_output=False
            )
            # asked after them: a process has a heartbeat before it works on anything
            alive = living()
            for status in running:
                if status.executor_id in alive or status.queue_name is None:
                    continue
                log.warning("taking over %s from a process that ended", status.workflow_id)
                self._opened.resume_workflow(status.workflow_id, queue_name=status.queue_name)
                taken += 1
        if taken or not (self._works or self.is_empty()):
            self.wake()
        return taken

    def forget(self, items: Collection[str]) -> None:
        """Remove what the queue still knows about items that are no longer needed."""
        prefixes = [f"{item}." for item in items]
        with told_when_unreachable():
            found = self._opened.list_workflows(
                workflow_id_prefix=prefixes, load_input=False, load_output=False
            )
            if found:
                self._opened.delete_workflows([status.workflow_id for status in found])

    def close(self) -> None:
        """Stop working on the queues. What runs is not waited for."""
        self._closing = True  # without the lock, which whoever begins to work may hold for long
        if self._client is None:
            return
        client, self._client = self._client, None
        stopping = threading.Thread(target=self.rest, name="queue-stop", daemon=True)
        stopping.start()
        stopping.join(CLOSE_S)
        client.destroy()


def _quiet() -> None:
    """Let DBOS's warnings be lines of our log, and leave out the rest."""
    logger = logging.getLogger("dbos")
    logger.addHandler(logging.NullHandler())  # else it brings one of its own
    logger.propagate = True
    if not any(isinstance(known, _OnceAMinute) for known in logger.filters):
        logger.addFilter(_OnceAMinute())


class _OnceAMinute(logging.Filter):
    """Lets a warning pass once a minute, and only its first line: with the database gone, each
    thread of DBOS says so at each try.
    """

    def __init__(self) -> None:
        super().__init__()
        self._passed: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        line = _one_line(record)
        kind, now = line[:30], time.monotonic()
        if now - self._passed.get(kind, -REPEAT_S) < REPEAT_S:
            return False
        self._passed[kind] = now
        record.msg, record.args, record.exc_info, record.exc_text = f"queue: {line}", (), None, None
        for name in NOISE:
            record.__dict__.pop(name, None)
        return True


def _one_line(record: logging.LogRecord) -> str:
    """A message without its traceback, which may be part of its text."""
    what, traceback, rest = record.getMessage().partition("Traceback (most recent call last):")
    line = what.strip().partition("\n")[0]
    if record.exc_info and record.exc_info[1] is not None:
        line += f" {record.exc_info[1]!r}"
    elif traceback:
        line += " " + next((said for said in rest.splitlines() if said[:1].strip()), "")
    return line.partition("\n")[0][:300]
