"""Deliveries: real receivers, a real database; queue and clock stand still until asked."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from standardwebhooks import Webhook

from app.config.webhooks import DELAYS
from app.jobs.database import Database
from app.jobs.deliveries import Deliveries, Delivery, DeliveryState
from app.jobs.door import Notice
from app.jobs.job import Job, JobOptions, JobRequest, Url
from app.jobs.posting import Posted, Poster
from app.jobs.receivers import FAILURES, Receivers
from app.jobs.rows import job_of, new_row, select_job
from app.jobs.tables import jobs
from app.storage.egress import EgressRules
from tests.support.ports import free_port
from tests.support.site import Site, in_turn, silent, status
from tests.support.waiting import eventually

SECRET = "any text"
ALLOWED = "127.0.0.2"
BODY = b'{"type": "transcription.completed"}'
REQUEST = JobRequest(source=Url(url="https://example.com"), options=JobOptions(model="demo"))


class Queue:
    """Items by the time at which they are due, in the order of the clock."""

    def __init__(self) -> None:
        self.now = time.time()
        self.items: list[tuple[float, str]] = []
        self.delays: list[float] = []

    def add(
        self, connection: Any, queue: str, item: str, priority: int = 1, delay_s: float = 0.0
    ) -> None:
        self.items.append((self.now + delay_s, item))
        self.delays.append(delay_s)

    def take(self) -> str:
        self.items.sort()
        due, item = self.items.pop(0)
        self.now = max(self.now, due)
        return item


class Bench:
    def __init__(self, database: Database) -> None:
        self.database = database
        self.queue = Queue()
        self.deliveries = Deliveries(
            database,
            self.queue,  # type: ignore[arg-type]
            Poster(EgressRules([ALLOWED]), 30),
            SECRET,
            [float(delay) for delay in DELAYS],
            lambda: self.queue.now,
        )
        self.job = self.add_job("job-1")

    def add_job(self, job_id: str) -> Job:
        with self.database.begin() as connection:
            connection.execute(sa.delete(jobs))
            connection.execute(sa.insert(jobs).values(new_row(job_id, REQUEST, 1, 0.0)))
            return job_of(connection.execute(select_job(job_id)).one())

    def send(self, url: str) -> None:
        with self.database.begin() as connection:
            self.deliveries.add(connection, self.job, Notice(url, BODY))

    def handle(self) -> None:
        self.deliveries.handle(self.queue.take())

    def run(self) -> Delivery:
        while self.queue.items:
            self.handle()
        return self.delivery

    @property
    def delivery(self) -> Delivery:
        [found] = self.deliveries.of_job(self.job.id)
        return found


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    database = Database("", tmp_path_factory.mktemp("data"))
    yield database
    database.close()


@pytest.fixture
def bench(database: Database) -> Bench:
    return Bench(database)


@pytest.fixture(scope="module")
def receiver() -> Iterator[Site]:
    with Site(ALLOWED, free_port()) as site:
        yield site


@pytest.fixture(autouse=True)
def fresh(receiver: Site) -> None:
    receiver.received.clear()


def test_a_receiver_that_recovers(bench: Bench, receiver: Site) -> None:
    receiver.answers["/hook"] = in_turn(status(500), status(502), status(204))
    bench.send(f"{receiver.url}/hook")
    started = bench.queue.now
    delivery = bench.run()
    assert delivery.state is DeliveryState.DELIVERED
    assert [one.status for one in delivery.tries] == [500, 502, 204]
    assert [one.at - started for one in delivery.tries] == pytest.approx([0, 5, 15])
    assert delivery.next_at is None
    assert [got.body for got in receiver.received] == [BODY] * 3
    assert {got.headers["webhook-id"] for got in receiver.received} == {delivery.id}
    for got in receiver.received:
        Webhook(SECRET.encode()).verify(got.body, got.headers)


def test_a_receiver_that_is_gone_for_a_day(bench: Bench, receiver: Site) -> None:
    """Then the operator brings it back, and asks for the webhook."""
    bench.send(f"http://{ALLOWED}:{free_port()}/hook")
    started = bench.queue.now
    delivery = bench.run()
    assert delivery.state is DeliveryState.FAILED
    assert bench.queue.delays == [0.0, *map(float, DELAYS)]
    assert {one.reason for one in delivery.tries} == {"The connection was refused."}
    assert 0.9 * 86_400 < delivery.tries[-1].at - started <= 86_400
    resent = bench.deliveries.resend(bench.job.id)
    assert resent is not None
    assert resent.state is DeliveryState.WAITING
    assert resent.id == delivery.id
    bench.handle()
    assert len(bench.delivery.tries) == len(DELAYS) + 2
    assert bench.delivery.state is DeliveryState.WAITING, "it has all its tries again"


@pytest.mark.parametrize("code", [400, 401, 404, 410])
def test_a_receiver_that_refuses(bench: Bench, receiver: Site, code: int) -> None:
    receiver.answers["/hook"] = status(code)
    bench.send(f"{receiver.url}/hook")
    assert bench.run().state is DeliveryState.FAILED
    assert len(receiver.received) == 1


def test_a_receiver_that_asks_to_wait(bench: Bench, receiver: Site) -> None:
    receiver.answers["/hook"] = in_turn(status(429, Retry_After="1000"), status(204))
    bench.send(f"{receiver.url}/hook")
    bench.handle()
    assert bench.delivery.next_at == pytest.approx(bench.queue.now + 1000)
    assert bench.run().state is DeliveryState.DELIVERED


def test_a_private_address(bench: Bench) -> None:
    with Site("127.0.0.1", free_port()) as private:
        bench.send(f"{private.url}/hook")
        delivery = bench.run()
        assert delivery.state is DeliveryState.FAILED
        assert [one.reason for one in delivery.tries] == ["The address is not public."]
        assert private.received == []


def test_a_process_that_ends_before_its_note(
    bench: Bench, receiver: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The receiver hears it again, with the same ID."""
    receiver.answers["/hook"] = status(204)
    bench.send(f"{receiver.url}/hook")
    item = bench.queue.take()
    with monkeypatch.context() as patched:
        patched.setattr(bench.deliveries, "_note", lambda *_: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            bench.deliveries.handle(item)
    bench.deliveries.handle(item)
    assert bench.delivery.state is DeliveryState.DELIVERED
    bench.deliveries.handle(item)
    assert [got.headers["webhook-id"] for got in receiver.received] == [bench.delivery.id] * 2


@pytest.mark.parametrize(
    ("owner", "step", "result"),
    [
        (Receivers, "begin", 30.0),  # put off
        (Poster, "post", Posted(reason="No answer within 30 seconds.")),
        (Poster, "post", Posted(409)),
    ],
)
def test_what_comes_late_changes_nothing_once_it_is_delivered(
    bench: Bench,
    receiver: Site,
    owner: type,
    step: str,
    result: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A process that was frozen in a step, so that another one has sent it, too."""
    receiver.answers["/hook"] = status(204)
    bench.send(f"{receiver.url}/hook")
    item = bench.queue.take()
    real = getattr(owner, step)

    def frozen(*arguments: Any) -> Any:
        monkeypatch.setattr(owner, step, real)
        bench.deliveries.handle(item)
        return result

    monkeypatch.setattr(owner, step, frozen)
    bench.deliveries.handle(item)
    assert bench.delivery.state is DeliveryState.DELIVERED
    assert [one.status for one in bench.delivery.tries] == [204]
    assert bench.delivery.next_at is None
    assert bench.queue.items == []


def test_a_try_that_fails_unexpectedly(
    bench: Bench, receiver: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.answers["/hook"] = status(204)
    bench.send(f"{receiver.url}/hook")
    with monkeypatch.context() as patched:
        patched.setattr(Poster, "post", lambda *_: {}["/secret/path"])
        bench.handle()
    assert bench.run().state is DeliveryState.DELIVERED
    assert [one.reason for one in bench.delivery.tries] == ["The service failed on this try.", ""]


def test_sent_again_while_it_waits(bench: Bench, receiver: Site) -> None:
    """What was queued before does nothing then."""
    receiver.answers["/hook"] = in_turn(status(500), status(204))
    bench.send(f"{receiver.url}/hook")
    bench.handle()
    bench.deliveries.resend(bench.job.id)
    assert len(bench.queue.items) == 2
    bench.run()
    assert [one.status for one in bench.delivery.tries] == [500, 204]
    assert len(receiver.received) == 2


def test_what_the_queue_has_lost(bench: Bench, receiver: Site) -> None:
    receiver.answers["/hook"] = status(204)
    bench.send(f"{receiver.url}/hook")
    bench.queue.items.clear()
    bench.deliveries.requeue_lost()
    assert bench.queue.items == [], "it may just be late"
    bench.queue.now += 1000
    bench.deliveries.requeue_lost()
    bench.deliveries.requeue_lost()
    assert len(bench.queue.items) == 1
    assert bench.run().state is DeliveryState.DELIVERED


def test_nothing_to_send_again(bench: Bench) -> None:
    assert bench.deliveries.resend(bench.job.id) is None


def test_a_job_that_was_deleted(bench: Bench, receiver: Site) -> None:
    bench.send(f"{receiver.url}/hook")
    bench.add_job("job-2")
    bench.handle()
    assert receiver.received == []


def test_an_end_that_does_not_happen(bench: Bench, receiver: Site) -> None:
    """No webhook without the end of its job: both are in one transaction."""
    with bench.database.begin() as connection:
        bench.deliveries.add(connection, bench.job, Notice(f"{receiver.url}/hook", BODY))
        connection.rollback()
    bench.handle()
    assert receiver.received == []


def test_a_receiver_that_hangs_holds_up_no_other(bench: Bench) -> None:
    """It gets two at a time. The third is put off, which costs no try."""
    with (
        ThreadPoolExecutor(3) as threads,
        Site(ALLOWED, free_port()) as hanging,
        Site(ALLOWED, free_port()) as working,
    ):
        hanging.answers["/hook"] = silent
        working.answers["/hook"] = in_turn(status(500), status(204))
        for _ in range(3):
            bench.send(f"{hanging.url}/hook")
        items = [bench.queue.take() for _ in range(3)]
        handled = [threads.submit(bench.deliveries.handle, item) for item in items]
        eventually(lambda: len(hanging.received) == 2 and any(one.done() for one in handled))
        bench.send(f"{working.url}/hook")
        while len(working.received) < 2:
            bench.handle()
        assert len(hanging.received) == 2
    tries = [len(one.tries) for one in bench.deliveries.of_job(bench.job.id)]
    assert sorted(tries) == [0, 1, 1, 2]


def test_a_receiver_that_keeps_failing_gets_one_at_a_time() -> None:
    """What it would get besides is spread, and only until it works again."""
    receivers = Receivers(clock=lambda: 0.0)
    host, other = "http://a.example/hook", "http://b.example/hook"
    for _ in range(FAILURES):
        assert receivers.begin(host) == 0
        receivers.end(host, took_s=30, failed=True)
    assert receivers.begin(host) == 0
    assert [receivers.begin(f"http://me@A.example/{n}") for n in range(3)] == [30, 60, 90]
    assert receivers.begin(other) == receivers.begin(other) == 0
    receivers.end(host, took_s=0.1, failed=False)
    assert receivers.begin(host) == receivers.begin(host) == 0
    assert receivers.begin(host) > 0
