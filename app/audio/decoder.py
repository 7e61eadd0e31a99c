"""One decoding process as the service sees it: started, given a call, killed.

It has nothing of the service: no secrets in its environment, no network, no other open files. What
it answers is read as data: it can name no class but those of an answer.
"""

from __future__ import annotations

import builtins
import io
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import app.domain.errors
from app.audio.decode import DecodedFile
from app.audio.playable import Playable
from app.config.environment import bare_environment
from app.domain.warnings import TranscriptWarning

# Without collections meanwhile, and rich (structlog imports it), it starts in half the time.
PROGRAM = """\
import gc, sys
gc.disable()
sys.path[:] = sys.argv[2:]
sys.modules["rich"] = None
from app.audio.worker import main
gc.freeze()
gc.enable()
main()
"""
START_S = 60.0  # a process that has not taken its file by then never will
END_S = 10.0
MAX_ANSWER_BYTES = 1 << 20
# How a process ends that somebody else killed, e.g. the kernel when memory runs out.
KILLED = frozenset({-signal.SIGKILL, -signal.SIGTERM})


class DecoderDied(Exception):
    """`innocent`: the file is probably not the reason."""

    def __init__(self, innocent: bool) -> None:
        super().__init__(innocent)
        self.innocent = innocent


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


class Decoder:
    """A process that takes one call at a time. One thread owns it; any thread may kill it."""

    def __init__(self, memory_mb: int, folder: Path, prepare: Callable[[], None]) -> None:
        """Returns at once, while the process starts. It may write beneath `folder` only.

        Raises OSError if it cannot be started.
        """
        self._folder, self._folder_id = folder, _identity(folder)
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-c", PROGRAM, str(theirs.fileno()), *sys.path],
                    pass_fds=(theirs.fileno(),),
                    env=bare_environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                )
        except BaseException:
            ours.close()
            raise
        self._connection = Connection(ours.detach())
        self.num_calls = 0
        with suppress(OSError):  # it is dead, which the first call notices
            self._connection.send((memory_mb, folder, prepare))

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def is_stale(self) -> bool:
        """Whether its folder was removed, perhaps made anew: it may not write there."""
        try:
            return _identity(self._folder) != self._folder_id
        except OSError:
            return True

    @property
    def cpu_s(self) -> float:
        """What it has used since it started; 0 if it is gone."""
        try:
            return time.clock_gettime(~self.pid << 3 | 2)  # CPUCLOCK_SCHED of a whole process
        except OSError:
            return 0.0

    def call(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        timeout_s: float,
        started: Callable[[], None],
    ) -> Any:
        """What the function returns in the process. `started` is called once it begins.

        Raises:
            DecoderDied: the process has ended, or does not begin.
            TimeoutError: the call took too long. Kill the process then.
            Exception: what the function raised.
        """
        self.num_calls += 1
        try:
            self._connection.send((function, arguments))
            if not self._receive(START_S):
                raise EOFError
        except (TimeoutError, EOFError, OSError):
            raise DecoderDied(innocent=True) from None
        started()
        try:
            answer = self._receive(timeout_s)
        except TimeoutError:
            raise
        except pickle.UnpicklingError:
            raise DecoderDied(innocent=False) from None
        except (EOFError, OSError):
            raise DecoderDied(innocent=self._end() in KILLED) from None
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _receive(self, timeout_s: float) -> Any:
        if not wait([self._connection], timeout_s):
            raise TimeoutError
        return read_answer(self._connection.recv_bytes(MAX_ANSWER_BYTES))

    def _end(self) -> int:
        """The exit code of a process that has hung up."""
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(END_S)
        self._process.kill()
        self._process.wait()
        return 0

    def kill(self) -> None:
        """End the process at once. Its owner then gets DecoderDied."""
        self._process.kill()

    def close(self) -> None:
        """Owner only."""
        self._process.kill()
        self._process.wait()
        self._connection.close()


def _warning(kind: Any, name: str) -> TranscriptWarning:
    """What Python before 3.11.4 sends of a warning is `getattr` with these arguments."""
    if kind is not TranscriptWarning:
        raise pickle.UnpicklingError("builtins.getattr")
    return TranscriptWarning[name]


class _Answers(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("builtins", "getattr"):
            return _warning
        if module == "builtins":
            found = getattr(builtins, name, None)
            if isinstance(found, type) and issubclass(found, OSError | MemoryError):
                return found
        elif module == app.domain.errors.__name__ and "." not in name:
            found = getattr(app.domain.errors, name, None)
            if isinstance(found, type) and issubclass(found, app.domain.errors.ServiceError):
                return found
        for known in (DecodedFile, Playable, TranscriptWarning):
            if (module, name) == (known.__module__, known.__qualname__):
                return known
        raise pickle.UnpicklingError(f"{module}.{name}")


def read_answer(data: bytes) -> Any:
    """What a decoding process has sent. Raises UnpicklingError if it is no answer."""
    try:
        return _Answers(io.BytesIO(data)).load()
    # A process that was taken over may send any bytes.
    except Exception as error:  # noqa: BLE001
        raise pickle.UnpicklingError(str(error)) from None
