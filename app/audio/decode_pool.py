"""The processes that decode. FFmpeg's code runs only in them.

A crash fails one request; a process that takes too long or too much memory is killed. The samples
come back in a file, which the caller maps and unlinks, so a day of audio takes no memory.

Each process belongs to a thread, which gives it one file at a time and alone hears its answers. A
process is killed for a file only while it has that file: under one lock.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from structlog.contextvars import get_contextvars

from app.audio.decode import DecodeRequest
from app.audio.decode_job import DecodeJob, PlayableJob
from app.audio.decoder import Decoder, DecoderDied
from app.audio.slot import NO_PROCESS, Slot
from app.audio.turns import Task, Turns
from app.audio.worker import decode_for, make_playable_for
from app.domain.errors import ModelUnavailable, ShuttingDown

log = logging.getLogger(__name__)

SMALL_BYTES = 8 << 20
CLOSE_S = 10.0


def do_nothing() -> None:
    """The default for `prepare`."""


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """Limits for one file. `max_streams` counts tracks; `min_free_bytes` stay free on the disk."""

    timeout_s: float
    memory_mb: int
    max_streams: int = 100
    min_free_bytes: int = 0


class DecodePool:
    """A few processes, each decoding one file at a time, for all clients in turn."""

    def __init__(
        self,
        folder: Path,
        workers: int,
        limits: DecodeLimits,
        prepare: Callable[[], None] = do_nothing,
    ) -> None:
        """Each process calls `prepare` when it starts, so `prepare` must be picklable."""
        self._folder = folder
        self._limits = limits
        self._changed = threading.Condition()  # its lock can be taken again by its owner
        self._turns = Turns()
        self._open: set[Task] = set()
        self._closed = False
        self._slots = [
            Slot(
                number,
                number == workers,
                partial(Decoder, limits.memory_mb, folder.parent, prepare),
            )
            for number in range(workers + 1)
        ]

    def warm_up(self) -> None:
        """Start the processes before the first request needs them.

        Raises:
            ModelUnavailable: no process can be started.
        """
        with self._changed:
            self._start_threads()

    def submit(
        self,
        source: Path,
        max_duration_s: float,
        raw_pcm: bool = False,
        stop_after_s: float | None = None,
        audio_track: str = "",
        split_channels: bool = False,
        *,
        client: Hashable = "",
    ) -> DecodeJob:
        """`client`: files of different clients take turns.

        Raises ShuttingDown, ModelUnavailable, DiskFull, or OSError if no file can be created.
        """
        request = self._request(
            source, max_duration_s, raw_pcm, stop_after_s, audio_track, split_channels
        )
        return DecodeJob(request, partial(self._schedule_file, decode_for, request, client))

    def submit_playable(
        self, source: Path, max_duration_s: float, audio_track: str = "", *, client: Hashable = ""
    ) -> PlayableJob:
        """See `audio/playable.py`. Raises as `submit`."""
        request = self._request(source, max_duration_s, audio_track=audio_track)
        schedule = partial(self._schedule_file, make_playable_for, request, client)
        return PlayableJob(request, schedule)

    def _request(
        self,
        source: Path,
        max_duration_s: float,
        raw_pcm: bool = False,
        stop_after_s: float | None = None,
        audio_track: str = "",
        split_channels: bool = False,
    ) -> DecodeRequest:
        return DecodeRequest(
            source,
            self._folder / f"{secrets.token_hex(16)}.f32",
            max_duration_s,
            raw_pcm,
            stop_after_s,
            self._limits.max_streams,
            self._limits.min_free_bytes,
            audio_track,
            split_channels,
        )

    def _schedule_file(
        self, function: Callable[..., Any], request: DecodeRequest, client: Hashable
    ) -> Task:
        small = request.source.exists() and request.source.stat().st_size <= SMALL_BYTES
        return self._add(Task(function, (get_contextvars(), request), client, small))

    def _schedule(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        return self._add(Task(function, args)).future

    def _add(self, task: Task) -> Task:
        with self._changed:
            if self._closed:
                raise ShuttingDown
            self._start_threads()
            self._open.add(task)
            self._turns.add(task)
            self._changed.notify_all()
        task.future.add_done_callback(partial(self._ended, task))
        return task

    def _start_threads(self) -> None:
        """The threads that are missing: all at first, later those that died."""
        for slot in self._slots:
            if slot.thread is None or not slot.thread.is_alive():
                thread = threading.Thread(
                    target=self._work, args=(slot,), name=slot.name, daemon=True
                )
                try:
                    thread.start()
                except RuntimeError as error:
                    raise ModelUnavailable(NO_PROCESS, 10) from error
                slot.thread = thread

    def _ended(self, task: Task, future: Future[Any]) -> None:
        """Called once for each task. If it was cancelled, its process ends here and now."""
        with self._changed:
            self._open.discard(task)
            self._turns.discard(task)
            if future.cancelled():
                for slot in self._slots:
                    slot.stop(task)

    def _work(self, slot: Slot) -> None:
        """The thread of a slot."""
        try:
            while (task := self._take(slot)) is not None:
                outcome = slot.run(task, self._limits.timeout_s)
                self._release(slot)
                _settle(task, outcome)
        finally:
            self._give_up(slot)

    def _take(self, slot: Slot) -> Task | None:
        """The slot's next task; None once the pool is closed."""
        if not slot.spare:
            slot.renew()
        with self._changed:
            while not self._closed:
                if not slot.spare or self._all_busy():
                    slot.task = self._turns.take(newcomers=slot.spare)
                if slot.task is not None:
                    self._changed.notify_all()  # the spare one looks whether all are busy now
                    return slot.task
                self._changed.wait()
        return None

    def _all_busy(self) -> bool:
        return all(slot.task is not None for slot in self._slots if not slot.spare)

    def _release(self, slot: Slot) -> None:
        """From here on nobody kills the slot's process for the sake of its task."""
        with self._changed:
            if slot.task is not None:
                self._turns.done(slot.task)
            slot.task = None

    def _give_up(self, slot: Slot) -> None:
        """The thread ends. Nobody waits for what it has left."""
        task = slot.task
        self._release(slot)
        slot.drop()
        if task is not None:
            _settle(task, DecoderDied(innocent=True))

    def check(self) -> None:
        """Replace threads that died. Call this regularly."""
        with self._changed:
            if self._closed or self._slots[0].thread is None:
                return
            try:
                self._start_threads()
            except ModelUnavailable as error:
                log.warning("%s", error)

    def close(self) -> None:
        """Kill the processes and cancel the futures of waiting callers."""
        with self._changed:
            self._closed = True
            for task in tuple(self._open):
                task.future.cancel()
            self._changed.notify_all()
        for slot in self._slots:
            if slot.thread is not None:
                slot.thread.join(CLOSE_S)


def _settle(task: Task, outcome: Any) -> None:
    with suppress(InvalidStateError):  # it was cancelled
        if isinstance(outcome, BaseException):
            task.future.set_exception(outcome)
        else:
            task.future.set_result(outcome)
