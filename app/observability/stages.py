"""StageClock: how long each stage of a request took. Log, metrics and trace read it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Stage(StrEnum):
    """In the order of the flow. Alignment and diarization run in parallel with other stages."""

    UPLOAD = "upload"
    QUEUE = "queue"  # until the first of the request's work has its turn
    DECODE = "decode"
    LOAD = "load"  # waiting for a model to be loaded
    SPEECH = "speech"
    RECOGNIZE = "recognize"  # telling the language counts too
    ALIGN = "align"
    DIARIZE = "diarize"
    FORMAT = "format"


@dataclass(frozen=True, slots=True)
class StageTime:
    """One run of a stage. `started`: time.monotonic. `error`: the class of its exception."""

    stage: Stage
    started: float
    seconds: float
    error: str = ""


class Queued(Protocol):
    """Work that waits in a queue. `started` is None as long as it does."""

    @property
    def queued(self) -> float: ...

    @property
    def started(self) -> float | None: ...


@contextmanager
def _ending(note: Callable[[float, str], None]) -> Iterator[None]:
    """Call `note` at the end of the block, with the time and the class of its exception, if any."""
    error = ""
    try:
        yield
    except BaseException as reason:
        error = type(reason).__name__
        raise
    finally:
        note(time.monotonic(), error)


class StageClock:
    """Any thread may write to it. A stage may run several times."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.started_epoch_s = time.time()
        self.times: list[StageTime] = []

    def measure(
        self, stage: Stage, started: float | None = None, at_least_s: float = 0.0
    ) -> AbstractContextManager[None]:
        """Measure the block, or from `started` to its end. Times below `at_least_s` are dropped."""
        begun = time.monotonic() if started is None else started

        def note(now: float, error: str) -> None:
            if now - begun >= at_least_s:
                self.times.append(StageTime(stage, begun, now - begun, error))

        return _ending(note)

    def measure_queued(self, stage: Stage, work: Queued) -> AbstractContextManager[None]:
        """The block's time, in two: QUEUE until the work had its turn, the stage from then on."""

        def note(now: float, error: str) -> None:
            started = now if work.started is None else work.started
            self.times.append(StageTime(Stage.QUEUE, work.queued, started - work.queued))
            if work.started is not None:
                self.times.append(StageTime(stage, started, now - started, error))

        return _ending(note)

    def seconds(self) -> dict[Stage, float]:
        """The total of each stage that ran, in order."""
        totals: dict[Stage, float] = {}
        for item in list(self.times):
            totals[item.stage] = totals.get(item.stage, 0.0) + item.seconds
        return {stage: totals[stage] for stage in Stage if stage in totals}

    def epoch_s(self, moment: float) -> float:
        """A moment of time.monotonic as seconds since 1970."""
        return self.started_epoch_s + moment - self.started
