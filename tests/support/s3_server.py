"""An S3 server of the tests' own: rclone's, which checks signatures. Buckets are folders."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.support.ports import free_port

START_TIMEOUT_S = 60
ACCESS_KEY, SECRET_KEY = "TESTKEY", "test-secret-key"


@dataclass
class S3Server:
    """`root`: its buckets."""

    command: list[str]
    root: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def settings(self, *buckets: str, secret: str = SECRET_KEY) -> dict[str, str]:
        """Of a service that uses this server."""
        return {
            "AWS_ENDPOINT_URL_S3": self.url,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": secret,
            "S3_ALLOWED_BUCKETS": ",".join(buckets),
        }

    def bucket(self, name: str) -> Path:
        (self.root / name).mkdir(exist_ok=True)
        return self.root / name

    def freeze(self) -> None:
        """It still takes connections, and answers nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.wait()

    def wait(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                httpx.get(self.url, timeout=5)
                return
            except httpx.TransportError:
                time.sleep(0.05)
        raise AssertionError("the S3 server did not start")


def program() -> str:
    beside = Path(sys.executable).with_name("rclone")
    found = str(beside) if beside.exists() else shutil.which("rclone")
    if found is None:
        pytest.skip("there is no rclone here")
    return found


@contextmanager
def running_s3(folder: Path, *options: str) -> Iterator[S3Server]:
    """`options`: of rclone, such as a limit of its bandwidth."""
    port = free_port()
    root = folder / "buckets"
    root.mkdir(parents=True, exist_ok=True)
    command = [
        program(), "serve", "s3", "--auth-key", f"{ACCESS_KEY},{SECRET_KEY}",
        "--addr", f"127.0.0.1:{port}", "--config", "/dev/null",
        "--cache-dir", str(folder / "cache"), "--dir-cache-time", "0s", *options, str(root),
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    server = S3Server(command, root, port, process)
    try:
        server.wait()
        yield server
    finally:
        server.go_on()
        server.kill()
