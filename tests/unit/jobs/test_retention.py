"""Retention: what goes with a job, and what never does."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from pathlib import Path

import sqlalchemy as sa

from app.domain.errors import StageFailed
from app.jobs.idempotency import Idempotency
from app.jobs.job import JobState, S3Object, Upload
from app.jobs.retention import A_DAY_S, Retention
from app.jobs.sources import Sources
from app.jobs.tables import idempotency, jobs, transcripts
from app.storage.objects import FORGOTTEN_S, LocalObjects
from app.storage.tempdir import PrivateDirectory
from tests.support.job_tables import TRANSCRIPT, Line, Process


class Forgetful(Line):
    def forget(self, items: Collection[str]) -> None:
        self.entries = [entry for entry in self.entries if entry[0] not in items]


class Bucket(LocalObjects):
    """A store that may be out of reach."""

    broken = False

    def delete(self, name: str) -> None:
        if self.broken:
            raise StageFailed("The bucket cannot be reached.")
        super().delete(name)


def test_what_ended_long_ago_is_removed_with_all_that_belongs_to_it(
    process: Process, tmp_path: Path
) -> None:
    line = process.line = process.store.queue = process.runs._queue = Forgetful()
    uploads = Bucket(tmp_path / "uploads")
    temp = PrivateDirectory(tmp_path / "tmp")
    retention = Retention(process.store, Sources(uploads, temp), 1.0, process.clock)

    def upload(name: str) -> Upload:
        path = tmp_path / "sent"
        path.write_bytes(b"sound")
        uploads.put(path, name, lambda: None)
        return Upload(name=name)

    assert process.store.keys.reserve("a", "key") is None
    done = process.submit(source=upload("done"), same=Idempotency("key", "0" * 64))
    run = process.begin(done)
    process.runs.keep(run, TRANSCRIPT)
    process.runs.succeed(run, TRANSCRIPT, {}, 1.0)
    waiting = process.submit(source=upload("waiting"))
    theirs = process.submit(source=S3Object(bucket="theirs", key="input"))
    process.store.request_cancel(theirs.id, "a")
    process.now += A_DAY_S / 2
    recent = process.submit(source=upload("recent"))
    process.runs.fail(process.begin(recent), StageFailed("broken"))
    retention.clean()
    assert count(process, jobs) == 4
    process.now += A_DAY_S * 0.6
    uploads.broken = True  # which holds up nothing else
    retention.clean()
    assert [count(process, table) for table in (jobs, transcripts, idempotency)] == [2, 0, 0]
    assert process.store.find(waiting.id, "a").state is JobState.QUEUED
    assert {entry[0] for entry in line.entries} == {waiting.id, recent.id}
    uploads.broken = False
    process.now += A_DAY_S
    retention.clean()
    assert count(process, jobs) == 1
    left = {path.name for path in (tmp_path / "uploads").iterdir()}
    assert left == {"waiting", "done"}
    temp.close()


USED, FORGOTTEN, RECENT = (digit * 32 for digit in "abc")
THEIRS = "minutes.wav"  # somebody keeps files of their own there


def test_uploads_without_a_job_do_not_stay_for_good(process: Process, tmp_path: Path) -> None:
    """A process may end between an upload and its job."""
    folder = tmp_path / "uploads"
    uploads = LocalObjects(folder)
    process.submit(source=Upload(name=USED))
    process.submit(source=S3Object(bucket="theirs", key="input"))
    for name in (USED, FORGOTTEN, f"{FORGOTTEN}.part", RECENT, THEIRS):
        (folder / name).write_bytes(b"sound")
        age_s = 0 if name == RECENT else FORGOTTEN_S + 60
        os.utime(folder / name, (time.time() - age_s,) * 2)
    assert uploads.sweep(process.store.uploads_in_use) == 2
    assert {path.name for path in folder.iterdir()} == {USED, RECENT, THEIRS}
    assert uploads.sweep(process.store.uploads_in_use) == 0


def count(process: Process, table: sa.Table) -> int:
    with process.database.read() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
