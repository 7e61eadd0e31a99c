"""The worker processes that decode. FFmpeg's code runs only in them.

A crash fails one request; a process that takes too long or too much memory is killed. The samples
come back in a file, which the caller maps and unlinks, so a day of audio takes no memory.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import resource
import secrets
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import wait as wait_for_any
from pathlib import Path
from typing import Any

import av
import numpy as np
from pebble import ProcessExpired, ProcessPool
from structlog.contextvars import bound_contextvars, get_contextvars

from app.audio.decode import (
    NOT_MEDIA,
    DecodedFile,
    DecodeRequest,
    channel_targets,
    decode,
)
from app.domain.errors import (
    DeadlineExceeded,
    ModelUnavailable,
    ServiceError,
    ShuttingDown,
    StageFailed,
    UndecodableAudio,
)
from app.domain.transcript import Audio
from app.storage.tempdir import told_when_full

log = logging.getLogger(__name__)

INTERRUPTED = "Decoding was interrupted; try again."
NO_PROCESS = "No process can be started for decoding; try again later."
# Exit codes of a process that was killed, including by the kernel when memory runs out. pebble's
# processes answer SIGTERM by exiting with its number.
KILLED = frozenset({-signal.SIGKILL, -signal.SIGTERM, int(signal.SIGTERM)})
STUCK_AFTER_S = 60.0  # a file waits this long beside an idle process; one starts in seconds


def _start_worker(memory_mb: int, prepare: Callable[[], None]) -> None:
    """Prepare and limit a worker process. Runs when it starts."""
    prepare()
    limit = memory_mb << 20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    av.logging.set_level(None)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _decode_for(context: dict[str, Any], request: DecodeRequest) -> DecodedFile:
    """Decode with the request's log `context`."""
    with bound_contextvars(**context):
        return decode(request)


def do_nothing() -> None:
    """The default for `prepare`."""


def _end_with_parent() -> None:
    """End this process when the service is killed, so that no worker is left behind.

    Not PR_SET_PDEATHSIG: that fires when the *thread* that started this process ends.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait_for_any([parent.sentinel])
    os._exit(1)


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """Limits for one file. `max_streams` counts tracks; `min_free_bytes` stay free on the disk."""

    timeout_s: float
    memory_mb: int
    max_streams: int = 100
    min_free_bytes: int = 0


class DecodePool:
    """A few worker processes, each decoding one file at a time."""

    def __init__(
        self,
        folder: Path,
        workers: int,
        limits: DecodeLimits,
        prepare: Callable[[], None] = do_nothing,
    ) -> None:
        """Each process calls `prepare` when it starts, so `prepare` must be picklable."""
        self._prepare = prepare
        self._folder = folder
        self._workers = workers
        self._limits = limits
        self._lock = threading.Lock()
        self._open: set[Future[Any]] = set()
        self._idle_since: float | None = None  # a process is idle although a file waits
        self._closed = False
        self._pool = self._new_pool()

    def _new_pool(self) -> ProcessPool:
        return ProcessPool(
            max_workers=self._workers,
            max_tasks=50,  # then a fresh process, so that leaks in FFmpeg do not add up
            context=multiprocessing.get_context("spawn"),
            initializer=_start_worker,
            initargs=(self._limits.memory_mb, self._prepare),
        )

    def warm_up(self) -> None:
        """Start the processes before the first request needs them.

        Raises:
            ModelUnavailable: no process can be started.
        """
        with suppress(ShuttingDown):
            self._schedule(os.getpid)

    def submit(
        self,
        source: Path,
        max_duration_s: float,
        raw_pcm: bool = False,
        stop_after_s: float | None = None,
        audio_track: str = "",
        split_channels: bool = False,
    ) -> DecodeJob:
        """Raises ShuttingDown, ModelUnavailable, DiskFull, or OSError if no file can be created."""
        target = self._folder / f"{secrets.token_hex(16)}.f32"
        request = DecodeRequest(
            source,
            target,
            max_duration_s,
            raw_pcm,
            stop_after_s,
            self._limits.max_streams,
            self._limits.min_free_bytes,
            audio_track,
            split_channels,
        )
        try:
            with told_when_full():
                for path in channel_targets(request):
                    path.touch()
            return DecodeJob(request, partial(self._schedule_decoding, request))
        except BaseException:
            _remove_targets(request)
            raise

    def _schedule_decoding(self, request: DecodeRequest) -> Future[DecodedFile]:
        return self._schedule(_decode_for, get_contextvars(), request)

    def _schedule(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        with self._lock:
            if self._closed:
                raise ShuttingDown
            try:
                future = self._enqueue_surely(function, args)
            except (RuntimeError, OSError) as error:
                raise ModelUnavailable(NO_PROCESS, 10) from error
            self._open.add(future)
        future.add_done_callback(self._open.discard)
        return future

    def _enqueue_surely(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Future[Any]:
        try:
            return self._enqueue(function, args)
        except RuntimeError:
            # pebble stops for good when an idle process is killed, e.g. to free memory
            self._restart()
            return self._enqueue(function, args)

    def _enqueue(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Future[Any]:
        future: Future[Any] = self._pool.schedule(
            function, args=args, timeout=self._limits.timeout_s
        )
        return future

    def check(self) -> None:
        """Restart the pool if files would wait forever: one of its threads died, or a process died
        while holding the lock. Call this regularly.
        """
        with self._lock:
            if self._closed:
                return
            num_open = len(self._open)
            num_running = sum(future.running() for future in tuple(self._open))
            if num_running == min(num_open, self._workers):
                self._idle_since = None
            elif self._idle_since is None:
                self._idle_since = time.monotonic()
            stuck = self._idle_since and time.monotonic() - self._idle_since > STUCK_AFTER_S
            if stuck or not self._pool.active:
                self._restart()

    def _restart(self) -> None:
        log.warning("decoding processes died; starting new ones")
        self._idle_since = None
        self._pool.stop()
        self._pool.join()
        for future in tuple(self._open):
            with suppress(InvalidStateError):  # pebble has already resolved it
                future.set_exception(BrokenProcessPool())
        self._pool = self._new_pool()

    def close(self) -> None:
        """Kill the processes and cancel the futures of waiting callers."""
        with self._lock:
            self._closed = True
            for future in list(self._open):
                future.cancel()
            self._pool.stop()
            self._pool.join()


class DecodeJob:
    """One file that the pool decodes."""

    def __init__(self, request: DecodeRequest, schedule: Callable[[], Future[DecodedFile]]) -> None:
        self._request = request
        self._schedule = schedule
        self.queued = time.monotonic()
        # when a process took the file; until that is known, when it was queued
        self.started: float | None = self.queued
        self.future = schedule()  # cancelling it kills the process that decodes the file

    def audio(self, wait: Callable[[Future[DecodedFile]], DecodedFile]) -> Audio:
        """The samples, after `wait` has waited for the future. They live as long as the Audio.
        If the processes had to be restarted, `wait` is called again with another future.

        Raises:
            ServiceError: as `decode`; DeadlineExceeded if decoding took too long.
        """
        return self.channels(wait)[0]

    def channels(self, wait: Callable[[Future[DecodedFile]], DecodedFile]) -> list[Audio]:
        """As `audio`, for each channel if the request splits them. All have the same warnings."""
        try:
            decoded = self._decoded(wait)
            self.started = max(self.queued, decoded.started)
            mapped = [
                np.memmap(target, dtype="<f4", mode="r", shape=(decoded.num_samples,))
                for target in channel_targets(self._request)[: decoded.num_channels]
            ]
        except ServiceError:
            raise
        except TimeoutError:
            raise DeadlineExceeded("Decoding the file took too long.") from None
        except (ProcessExpired, BrokenProcessPool, MemoryError) as error:
            if _is_innocent(error):
                raise ModelUnavailable(INTERRUPTED, 1) from None
            # FFmpeg crashed on the file or took too much memory.
            raise UndecodableAudio(NOT_MEDIA) from None
        except OSError as error:
            raise StageFailed("Decoding failed.") from error
        finally:
            _remove_targets(self._request)
        return [Audio(samples=samples, warnings=decoded.warnings) for samples in mapped]

    def _decoded(self, wait: Callable[[Future[DecodedFile]], DecodedFile]) -> DecodedFile:
        try:
            return wait(self.future)
        except (BrokenProcessPool, ProcessExpired) as error:
            if not _is_innocent(error):
                raise
        self.future = self._schedule()
        return wait(self.future)


def _remove_targets(request: DecodeRequest) -> None:
    for path in channel_targets(request):
        path.unlink(missing_ok=True)


def _is_innocent(error: Exception) -> bool:
    """Whether the file is probably not the reason why the processes ended."""
    if isinstance(error, ProcessExpired):
        return error.exitcode in KILLED
    return isinstance(error, BrokenProcessPool)  # a process was killed while idle
