"""Fetches what a client's URL leads to, in a process of its own that can be killed.

The process has nothing of the service: no secrets, no right to start programs or to change files
outside its folder, and it connects to permitted addresses only. What it says is read as data.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from app.config.environment import bare_environment
from app.domain.errors import DeadlineExceeded, FetchFailed, ModelUnavailable, StageFailed
from app.storage.egress import EgressRules
from app.storage.fetch_failure import Failure, FetchLimits, Reason, error_of
from app.storage.tempdir import told_when_full

log = logging.getLogger(__name__)

PROGRAM = (
    "import sys; sys.path[:] = sys.argv[2:]; from app.storage.fetch_worker import main; main()"
)
TARGET = "fetched"
MAX_ANSWER_BYTES = 16 << 10
MAX_NAME_CHARS = 255
NO_PROCESS = "No process can be started for fetching; try again later."
DIED = "Fetching the URL was interrupted; try again."


class Cancellable(Protocol):
    """The work that a fetch is part of; see engine/work.py."""

    @property
    def left_s(self) -> float: ...

    def check(self) -> None: ...

    def track(self, future: Future[Any]) -> Future[Any]: ...


@dataclass(frozen=True, slots=True)
class Fetched:
    """`file_name`: as the server calls it, for answers only; may be empty."""

    file_name: str
    num_bytes: int


class Fetcher:
    """Fetches URLs of clients. Any thread."""

    def __init__(self, rules: EgressRules, timeout_s: float, min_free_bytes: int = 0) -> None:
        """`timeout_s`: longest time of a fetch; `min_free_bytes` stay free on the disk."""
        self._rules = rules
        self._timeout_s = timeout_s
        self._min_free_bytes = min_free_bytes

    def fetch(
        self, url: str, path: Path, work: Cancellable, max_bytes: int, max_duration_s: float
    ) -> Fetched:
        """Put what the URL leads to at `path`. A page must have one recording.

        Raises:
            UnsupportedOption, UrlUnusable, UploadTooLarge: another try would not help.
            FetchFailed, DiskFull, ModelUnavailable, StageFailed: another one may.
            Cancelled, DeadlineExceeded, ...: the work has ended.
        """
        limits = FetchLimits(max_bytes, max_duration_s)
        order = {
            "url": self._rules.check_url(url, "url"),
            "target": TARGET,
            "allowed": self._rules.allowed,
            "max_bytes": max_bytes,
            "max_duration_s": max_duration_s,
            "min_free_bytes": self._min_free_bytes,
        }
        with _folder_beside(path) as folder:
            answer = self._ask(order, folder, work)
            work.check()
            if "file_name" not in answer:
                raise error_of(_failure(answer), limits)
            name = str(answer["file_name"])[:MAX_NAME_CHARS]
            return Fetched(name, _take(folder / TARGET, path, limits))

    def _ask(self, order: dict[str, Any], folder: Path, work: Cancellable) -> dict[str, Any]:
        """The answer of a process that is over by then."""
        timeout_s = min(self._timeout_s, work.left_s)
        deadline = time.monotonic() + timeout_s
        with _process(folder) as (process, connection), _killed_with(work, process):
            try:
                connection.settimeout(timeout_s)
                connection.sendall(json.dumps(order).encode() + b"\n")
                return _read(connection, deadline)
            except TimeoutError:
                work.check()
                if work.left_s <= 0:
                    raise DeadlineExceeded from None
                raise FetchFailed(
                    f"Fetching the URL took longer than {self._timeout_s:g} seconds."
                ) from None
            except (OSError, ValueError):
                work.check()
                raise FetchFailed(DIED) from None


@contextmanager
def _folder_beside(path: Path) -> Iterator[Path]:
    """A folder for the process; gone with all its files afterwards."""
    folder = path.with_name(f"{path.name}.fetch")
    with told_when_full():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _process(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    try:
        ours, theirs = socket.socketpair()
    except OSError:
        raise ModelUnavailable(NO_PROCESS, 10) from None
    with ours:
        with theirs:
            process = _start(folder, theirs.fileno())
        try:
            yield process, ours
        finally:
            process.kill()
            process.wait()


def _start(folder: Path, descriptor: int) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(descriptor), *map(os.path.abspath, sys.path)],
            cwd=folder,
            pass_fds=(descriptor,),
            env={**bare_environment(), "TMPDIR": str(folder), "YTDLP_NO_PLUGINS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
    except OSError:
        raise ModelUnavailable(NO_PROCESS, 10) from None


@contextmanager
def _killed_with(work: Cancellable, process: subprocess.Popen[bytes]) -> Iterator[None]:
    """While this runs, the end of the work ends the process."""
    running: Future[None] = Future()

    def kill_if_cancelled(future: Future[None]) -> None:
        if future.cancelled():
            process.kill()

    running.add_done_callback(kill_if_cancelled)
    work.track(running)
    try:
        yield
    finally:
        with suppress(InvalidStateError):  # it was cancelled
            running.set_result(None)


def _read(connection: socket.socket, deadline: float) -> dict[str, Any]:
    """All that a process says until it ends. Raises TimeoutError, OSError or ValueError."""
    data = b""
    while len(data) <= MAX_ANSWER_BYTES:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        piece = connection.recv(MAX_ANSWER_BYTES)
        if not piece:
            break
        data += piece
    answer = json.loads(data)
    if not isinstance(answer, dict):
        raise ValueError
    return answer


def _failure(answer: dict[str, Any]) -> Failure:
    try:
        reason = Reason(answer["reason"])
        retry = answer["retry_after_s"]
        failure = Failure(reason, int(answer["status"]), None if retry is None else int(retry))
    except (KeyError, ValueError, TypeError):
        failure = Failure(Reason.FAILED)
    detail = "".join(c for c in str(answer.get("detail", ""))[:200] if c.isalnum() or c in " _")
    log.info("A URL was not fetched: %s %s", failure.reason, detail)
    return failure


def _take(fetched: Path, path: Path, limits: FetchLimits) -> int:
    """Move a file that must be one, and no link to another. The number of its bytes."""
    try:
        status = fetched.lstat()
    except OSError:
        raise StageFailed("Fetching the URL failed.") from None
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        raise StageFailed("Fetching the URL failed.")
    if status.st_size > limits.max_bytes:
        raise error_of(Failure(Reason.TOO_LARGE), limits)
    fetched.replace(path)
    return status.st_size
