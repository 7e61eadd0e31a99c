"""One file that the pool decodes, as its request sees it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from app.audio.decode import NOT_MEDIA, DecodedFile, DecodeRequest, channel_targets
from app.audio.decoder import DecoderDied
from app.audio.playable import Playable, playable_target
from app.audio.turns import Task
from app.domain.errors import (
    DeadlineExceeded,
    ModelUnavailable,
    StageFailed,
    UndecodableAudio,
)
from app.domain.transcript import SAMPLE_RATE, Audio
from app.storage.tempdir import told_when_full

Wait = Callable[[Future[Any]], Any]

INTERRUPTED = "Decoding was interrupted; try again."


class DecodeJob:
    """One file that the pool decodes. `cancel` and the like go to its `future`."""

    def __init__(self, request: DecodeRequest, schedule: Callable[[], Task]) -> None:
        """Raises DiskFull, Overloaded, or OSError if no file can be created."""
        self._request = request
        self._schedule = schedule
        self.queued = time.monotonic()
        try:
            with told_when_full():
                for path in self._targets:
                    path.touch(0o600, exist_ok=False)
            self._tasks = [schedule()]
        except BaseException:
            self._remove_targets()
            raise

    @property
    def future(self) -> Future[Any]:
        """Cancelling it kills the process that decodes the file."""
        return self._tasks[-1].future

    @property
    def started(self) -> float | None:
        """time.monotonic() when a process took the file."""
        return self._tasks[-1].started

    @property
    def cpu_s(self) -> float:
        """What the file has cost, whether or not anything came out of it."""
        return sum(task.cpu_s for task in self._tasks)

    def audio(self, wait: Wait) -> Audio:
        """The samples, after `wait` has waited for the future. They live as long as the Audio.
        If its process died through no fault of the file, `wait` is called again with another one.

        Raises:
            ServiceError: as `decode`; DeadlineExceeded if decoding took too long.
        """
        return self.channels(wait)[0]

    def channels(self, wait: Wait) -> list[Audio]:
        """As `audio`, for each channel if the request splits them. All have the same warnings."""
        try:
            with _explained(), told_when_full():
                decoded: DecodedFile = self._answer(wait)
                mapped = [
                    np.memmap(target, dtype="<f4", mode="r", shape=(decoded.num_samples,))
                    for target in self._targets[: decoded.num_channels]
                ]
        finally:
            self._remove_targets()
        silent_s = decoded.num_silent / SAMPLE_RATE
        return [Audio(samples, decoded.warnings, silent_s) for samples in mapped]

    @property
    def _targets(self) -> list[Path]:
        return channel_targets(self._request)

    def _answer(self, wait: Wait) -> Any:
        """What the process answers."""
        try:
            return wait(self.future)
        except DecoderDied as error:
            if not error.innocent:
                raise
        self._tasks.append(self._schedule())
        return wait(self.future)

    def _remove_targets(self) -> None:
        for path in self._targets:
            path.unlink(missing_ok=True)


class PlayableJob(DecodeJob):
    """One file that is to be played."""

    def playable(self, wait: Wait) -> tuple[str, Path | None]:
        """The media type, and a new file if browsers cannot play the file as it is. Raises
        ServiceError, as `audio`.
        """
        encoded = None
        try:
            with _explained(), told_when_full():
                playable: Playable = self._answer(wait)
                if playable.encoded:
                    encoded = playable_target(self._request)
        finally:
            for path in self._targets:
                if path != encoded:
                    path.unlink(missing_ok=True)
        return playable.media_type, encoded

    @property
    def _targets(self) -> list[Path]:
        return [self._request.target, playable_target(self._request)]


@contextmanager
def _explained() -> Iterator[None]:
    """What happened to a process, as an error of the service."""
    try:
        yield
    except TimeoutError:
        raise DeadlineExceeded("Decoding the file took too long.") from None
    except (DecoderDied, MemoryError) as error:
        if isinstance(error, DecoderDied) and error.innocent:
            raise ModelUnavailable(INTERRUPTED, 1) from None
        # FFmpeg crashed on the file, or took too much memory or time.
        raise UndecodableAudio(NOT_MEDIA) from None
    except OSError as error:
        raise StageFailed("Decoding failed.") from error
