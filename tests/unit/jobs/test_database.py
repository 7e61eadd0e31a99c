"""The database: migrations, files, and what is said when it is gone."""

from __future__ import annotations

import secrets
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from app.domain.errors import ConfigurationError, DatabaseUnavailable, DiskFull
from app.domain.transcript import Segment, Transcript
from app.jobs.database import MIGRATIONS, Database
from app.jobs.history import Filters, History
from app.jobs.tables import jobs, metadata
from tests.support.job_tables import Process
from tests.support.paths import ROOT
from tests.support.ports import free_port
from tests.support.postgres import PostgresServer, running_postgres

CONFIG = Config()
CONFIG.set_main_option("script_location", str(MIGRATIONS))
REVISIONS = [script.revision for script in ScriptDirectory.from_config(CONFIG).walk_revisions()]
SAID = Transcript("de", 2.0, "demo", (Segment(0.0, 2.0, "Die STRASSE: 今天天气很好"),))

START = """
import sys
from pathlib import Path
from app.jobs.database import Database
from app.jobs.queue import JobQueue
database = Database(sys.argv[1], Path(sys.argv[2]))
queue = JobQueue(database, sys.argv[3])
queue.start({})
queue.close()
"""


def test_the_migrations_make_the_tables(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        # the queue's own tables are beside ours, and PostgreSQL's index of words
        ours = [
            change
            for change in compare_metadata(context, metadata)
            if not any(other in str(change) for other in ("dbos", "spoken_words", "'vector'"))
        ]
    assert ours == []


@pytest.mark.parametrize("revision", REVISIONS)
def test_rows_of_each_earlier_version_are_kept(url: str, tmp_path: Path, revision: str) -> None:
    database = Database(url, tmp_path)
    process = Process(database, tmp_path)
    job, done = process.submit(), process.submit()
    process.runs.keep(process.begin(done), SAID)
    with database.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        command.downgrade(config, revision)
    database.close()
    again = Database(url, tmp_path)
    process = Process(again, tmp_path)
    assert process.store.find(job.id, "a").request == job.request
    found = History(again).page("a", 5, filters=Filters(search="straße 天气"))
    assert [one.id for one in found.jobs] == [done.id]
    process.runs.cancelled(process.begin(job))
    again.close()


def test_processes_that_start_at_once_migrate_one_after_the_other(url: str, tmp_path: Path) -> None:
    starting = [
        subprocess.Popen(
            [sys.executable, "-c", START, url, str(tmp_path), str(number)],
            cwd=ROOT,
            stderr=subprocess.PIPE,
        )
        for number in range(2)
    ]
    for process in starting:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()[-2000:]


def test_the_files_are_for_their_owner_only(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    database = Database("", tmp_path)
    Process(database, tmp_path).submit()
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.glob("jobs.sqlite*")}
    assert set(modes) == {"jobs.sqlite", "jobs.sqlite-wal", "jobs.sqlite-shm"}
    assert set(modes.values()) == {0o600}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("mysql://a:secret@b/c", "must be like postgresql://"),
        ("nonsense secret", "must be like postgresql://"),
        ("postgresql://a:secret@127.0.0.1:{port}/c", "cannot be used: connection"),
    ],
)
def test_an_address_that_cannot_work_ends_the_start(tmp_path: Path, wrong: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        Database(wrong.format(port=free_port()), tmp_path)
    assert "secret" not in caught.value.message


def fill(process: Process) -> None:
    for _ in range(100):
        process.submit(metadata={"filler": "x" * 10_000})


def test_a_full_disk_is_told_and_passes(tmp_path: Path) -> None:
    database = Database("", tmp_path)
    process = Process(database, tmp_path)

    @sa.event.listens_for(database.engine, "checkout")
    def limit(connection: sa.engine.interfaces.DBAPIConnection, *_: object) -> None:
        connection.cursor().execute(f"PRAGMA max_page_count={pages}")

    pages = 1
    with pytest.raises(DiskFull):
        fill(process)
    pages = 1_000_000
    process.begin(process.submit())


def test_many_threads_write_at_once(database: Database, tmp_path: Path) -> None:
    process = Process(database, tmp_path)
    failed = []

    def work() -> None:
        try:
            for _ in range(5):
                run = process.begin(process.submit())
                process.runs.cancelled(run)
        except Exception as error:  # noqa: BLE001 - told by the test
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    with database.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(jobs)).scalar() == 100


def test_a_database_that_is_gone_is_told_as_such(tmp_path: Path) -> None:
    with running_postgres() as server:
        process = Process(Database(server.url(), tmp_path), tmp_path)
        job = process.submit()
        server.kill()
        with pytest.raises(DatabaseUnavailable) as caught:
            process.submit()
        assert caught.value.retry_after_s
        with pytest.raises(DatabaseUnavailable):
            process.store.find(job.id, "a")
        server.start()
        process.begin(job)


def test_a_frozen_process_keeps_no_lock(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres.new_database(secrets.token_hex(8))
    frozen, other = Database(url, tmp_path), Database(url, tmp_path)
    job = Process(frozen, tmp_path).submit()
    monkeypatch.setattr("app.jobs.database.IDLE_TIMEOUT_S", 1)
    frozen.engine.dispose()  # new connections
    rename = sa.update(jobs).where(jobs.c.id == job.id)

    def freeze_while_another_writes() -> None:
        with frozen.begin() as connection:
            connection.execute(rename.values(client="frozen"))
            with other.begin() as waiting:
                waiting.exec_driver_sql("SET LOCAL lock_timeout = '30s'")
                waiting.execute(rename.values(client="other"))

    with pytest.raises(DatabaseUnavailable):
        freeze_while_another_writes()
    with frozen.begin() as connection:
        assert connection.execute(sa.select(jobs.c.client)).scalar() == "other"
    frozen.close()
    other.close()


def test_what_is_accepted_outlives_the_power(tmp_path: Path) -> None:
    """SQLite may otherwise forget the last transactions of its log."""
    database = Database("", tmp_path)
    with database.read() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL
    database.close()
