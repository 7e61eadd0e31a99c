"""The database of the jobs: SQLite in a file, or PostgreSQL. Migrated at start, under a lock."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.engine import make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
)
from sqlalchemy.exc import TimeoutError as NoConnection

from app.domain.errors import ConfigurationError, Overloaded

T = TypeVar("T")

FILE_NAME = "jobs.sqlite"
MIGRATIONS = Path(__file__).parent / "migrations"
MIGRATION_LOCK = 0x57_41_53_52  # any number that nobody else locks in this database
POOL_SIZE, POOL_OVERFLOW = 10, 20
CONNECT_TIMEOUT_S = 5
BUSY_TIMEOUT_S = 30
RETRY_S = 0.5
UNREACHABLE = "The database of the jobs cannot be reached at present; try again later."
UNREACHABLE_RETRY_S = 5
UNREACHABLE_ERRORS = (OperationalError, InterfaceError, NoConnection)


class Database:
    """An engine, and transactions that write."""

    def __init__(self, url: str, data_dir: Path) -> None:
        """`url` empty: a file in the data directory.

        Raises:
            ConfigurationError: a wrong URL, no driver, or a server that does not answer.
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
        except DBAPIError as error:
            raise ConfigurationError(
                f"The database of the jobs cannot be used: {_first_line(error)}"
            ) from None

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        """A transaction that writes. On SQLite it has the file to itself from its start."""
        with self.engine.begin() as connection:
            if self.is_sqlite:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        with self.engine.connect() as connection:
            yield connection

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
        with self.begin() as connection:
            if not self.is_sqlite:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
            config.attributes["connection"] = connection
            logging.getLogger("alembic").setLevel(logging.WARNING)
            command.upgrade(config, "head")


def _sqlite(path: Path) -> sa.Engine:
    engine = sa.create_engine(
        f"sqlite:///{path}",
        pool_size=POOL_SIZE,
        max_overflow=POOL_OVERFLOW,
        connect_args={"timeout": BUSY_TIMEOUT_S},
    )

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, record: Any) -> None:
        connection.isolation_level = "IMMEDIATE"
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    return engine


def _postgresql(url: str) -> sa.Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() not in ("postgresql", "postgres"):
        raise ArgumentError
    return sa.create_engine(
        parsed.set(drivername="postgresql+psycopg"),
        pool_size=POOL_SIZE,
        max_overflow=POOL_OVERFLOW,
        pool_pre_ping=True,
        connect_args={"connect_timeout": CONNECT_TIMEOUT_S, "application_name": "whisperx-asr"},
    )


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).strip().splitlines()[0][:300]


def unreachable() -> Overloaded:
    """What clients are told if the database cannot be reached."""
    return Overloaded(UNREACHABLE, UNREACHABLE_RETRY_S)


def told_when_unreachable(what: Callable[[], T]) -> Callable[[], T]:
    """The same for those who cannot wait: raises Overloaded if the database cannot be reached."""

    def asked() -> T:
        try:
            return what()
        except UNREACHABLE_ERRORS:
            raise unreachable() from None

    return asked


def patiently(what: Callable[[], T], give_up: Callable[[], bool]) -> T:
    """The value of `what`, called again as long as the database cannot be reached.

    Raises:
        OperationalError: the last one, if `give_up` says so.
    """
    while True:
        try:
            return what()
        except OperationalError:
            if give_up():
                raise
        time.sleep(RETRY_S)
