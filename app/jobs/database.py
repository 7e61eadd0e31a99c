"""The database of the jobs: SQLite in a file, or PostgreSQL. Migrated at start, under a lock."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    InterfaceError,
    InternalError,
    NoSuchModuleError,
    OperationalError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.domain.errors import ConfigurationError, DatabaseUnavailable, DiskFull
from app.storage.tempdir import DISK_FULL

T = TypeVar("T")

FILE_NAME = "jobs.sqlite"
MIGRATIONS = Path(__file__).parent / "migrations"
MIGRATION_LOCK = 0x57_41_53_52  # any number that nobody else locks in this database
POOL_SIZE, POOL_OVERFLOW = 10, 20
CONNECT_TIMEOUT_S = 5
BUSY_TIMEOUT_S = 30
IDLE_TIMEOUT_S = 30  # of a transaction: its process is frozen, and others wait for its locks
RETRY_S = 0.5
# Notices within some 20 s that a machine is gone, which may never say so.
KEEPALIVE = {
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
# InternalError: the server has become a replica that only reads, or has ended an idle transaction.
UNREACHABLE = (OperationalError, InterfaceError, InternalError, PoolTimeout)


class Database:
    """An engine, and transactions that write."""

    def __init__(self, url: str, data_dir: Path) -> None:
        """`url` empty: a file in the data directory.

        Raises:
            ConfigurationError: a wrong URL, no driver, a server that does not answer, or tables of
                a newer version.
        """
        try:
            self.engine = _postgresql(url) if url else _sqlite(data_dir / FILE_NAME)
            self._migrate()
        except (ArgumentError, NoSuchModuleError):
            raise ConfigurationError(
                "DATABASE_URL: must be like postgresql://USER:PASSWORD@HOST:5432/NAME."
            ) from None
        except ImportError:
            raise ConfigurationError(
                "DATABASE_URL: the driver of PostgreSQL is missing: "
                "pip install 'whisperx-asr-service[postgresql]'."
            ) from None
        except CommandError:  # it has a migration that this version lacks
            raise ConfigurationError(
                "The database of the jobs was changed by a newer version of the service."
            ) from None
        except DBAPIError as error:
            raise ConfigurationError(
                f"The database of the jobs cannot be used: {_first_line(error)}"
            ) from None

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        """A transaction that writes. On SQLite it has the file to itself from its start.

        Raises:
            DatabaseUnavailable: it is not known whether something was written.
            DiskFull: nothing was.
        """
        with told_when_unreachable(), self.engine.begin() as connection:
            if self.is_sqlite:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Raises DatabaseUnavailable."""
        with told_when_unreachable(), self.engine.connect() as connection:
            yield connection

    def insert(self, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
        """An INSERT that may say what happens on a conflict."""
        return sqlite.insert(table) if self.is_sqlite else postgresql.insert(table)

    def now(self) -> sa.ColumnElement[float]:
        """Seconds since 1970 by the clock that all processes share."""
        if self.is_sqlite:
            return sa.literal_column("(julianday('now') - 2440587.5) * 86400.0", sa.Double)
        return sa.literal_column("extract(epoch from clock_timestamp())", sa.Double)

    def close(self) -> None:
        self.engine.dispose()

    def _migrate(self) -> None:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        with self.engine.begin() as connection:
            if self.is_sqlite:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
                # it may compute for long between two statements
                connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def _sqlite(path: Path) -> sa.Engine:
    # transcripts are nobody else's to read; SQLite's other files get the same mode
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    engine = sa.create_engine(
        f"sqlite:///{path}",
        pool_size=POOL_SIZE,
        max_overflow=POOL_OVERFLOW,
        connect_args={"timeout": BUSY_TIMEOUT_S},
    )

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, record: Any) -> None:
        connection.isolation_level = "IMMEDIATE"
        _use_wal(connection)
        for pragma in ("synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    return engine


def _use_wal(connection: sqlite3.Connection) -> None:
    """Kept in the file: only its first user changes it, which SQLite refuses without a wait while
    another one is there."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def _postgresql(url: str) -> sa.Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() not in ("postgresql", "postgres"):
        raise ArgumentError
    engine = sa.create_engine(
        parsed.set(drivername="postgresql+psycopg"),
        pool_size=POOL_SIZE,
        max_overflow=POOL_OVERFLOW,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_S,
            "application_name": "whisperx-asr",
            **KEEPALIVE,
        },
    )

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, record: Any) -> None:
        # not among the options of a connection: PgBouncer refuses those
        connection.execute(f"SET idle_in_transaction_session_timeout = '{IDLE_TIMEOUT_S}s'")
        connection.commit()

    return engine


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).strip().splitlines()[0][:300]


@contextmanager
def told_when_unreachable() -> Iterator[None]:
    """Raises DatabaseUnavailable, or DiskFull if SQLite has no room."""
    try:
        yield
    except UNREACHABLE as error:
        code = getattr(getattr(error, "orig", None), "sqlite_errorcode", None)
        if code == sqlite3.SQLITE_FULL:
            raise DiskFull(DISK_FULL) from None
        raise DatabaseUnavailable from error


def patiently(what: Callable[[], T], give_up: Callable[[], bool]) -> T:
    """The value of `what`, called again as long as the database cannot be reached or is full.

    Raises:
        DatabaseUnavailable, DiskFull: the last one, if `give_up` says so.
    """
    while True:
        try:
            return what()
        except (DatabaseUnavailable, DiskFull):
            if give_up():
                raise
        time.sleep(RETRY_S)
