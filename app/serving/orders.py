"""What fronts and transcribers tell each other. All of it can be pickled."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from app.domain.errors import ServiceError
from app.domain.transcript import Samples, Segment
from app.domain.warnings import TranscriptWarning
from app.engine.model import ModelKey
from app.engine.work import Work
from app.observability.stages import StageClock, StageTime

FULL_SCALE = 32768
BLOCK_SAMPLES = 1 << 20

Sound: TypeAlias = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Order:
    """What a transcriber must know of a request. `audio_s`: of its sound, for routing and scaling.
    The front watches the deadline; `timeout_s` is for the case that the front is gone.
    """

    request_id: str
    model: str
    audio_s: float
    timeout_s: float
    background: bool = False
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class SoundInfo:
    """What `Audio` tells besides its samples."""

    warnings: tuple[TranscriptWarning, ...] = ()
    silent_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Started:
    """A transcriber begins: what it tells from here on begins anew."""


@dataclass(frozen=True, slots=True)
class Recognized:
    segment: Segment


@dataclass(frozen=True, slots=True)
class Settled:
    segment: Segment


@dataclass(frozen=True, slots=True)
class Progress:
    share: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of an order: a value, or the error of the service. `stages`: with times from the
    beginning of the order. `loaded`: the models of the transcriber.
    """

    value: Any = None
    error: ServiceError | None = None
    stages: tuple[StageTime, ...] = ()
    loaded: tuple[ModelKey, ...] = ()
    transcriber: str = ""


Event: TypeAlias = Started | Recognized | Settled | Progress | Outcome


@dataclass(frozen=True, slots=True)
class Report:
    """How a transcriber is."""

    name: str
    loaded: tuple[ModelKey, ...]
    degraded: tuple[str, ...]
    device: str = ""


def to_sound(samples: Samples) -> Sound:
    """float32 within -1 to 1 -> int16, block by block: a recording of hours is mapped from a file.
    Exact for what was recorded with 16 bits.
    """
    sound = np.empty(len(samples), np.int16)
    for at in range(0, len(samples), BLOCK_SAMPLES):
        block = np.rint(samples[at : at + BLOCK_SAMPLES] * FULL_SCALE)
        sound[at : at + BLOCK_SAMPLES] = np.clip(block, -FULL_SCALE, FULL_SCALE - 1)
    return sound


def write_samples(sound: Sound, samples: Samples) -> Samples:
    """int16 -> float32, into an array of the same length."""
    for at in range(0, len(sound), BLOCK_SAMPLES):
        block = sound[at : at + BLOCK_SAMPLES]
        np.divide(block, FULL_SCALE, out=samples[at : at + BLOCK_SAMPLES], dtype=np.float32)
    return samples


def order_of(work: Work, model: str, audio_s: float, timeout_s: float) -> Order:
    """`timeout_s`: at least; of the operator's limits."""
    timeout_s = max(timeout_s, work.left_s)
    return Order(work.request_id, model, audio_s, timeout_s, work.background, work.urgent)


def shipped(clock: StageClock) -> tuple[StageTime, ...]:
    """The times of a clock, counted from its start: clocks of two machines have nothing to do with
    each other.
    """
    return tuple(
        StageTime(t.stage, t.started - clock.started, t.seconds, t.error) for t in list(clock.times)
    )


def landed(times: Iterable[StageTime], begun: float | None = None) -> list[StageTime]:
    """The same times on this machine's clock. `begun`: when the order began here."""
    begun = time.monotonic() if begun is None else begun
    return [StageTime(t.stage, begun + t.started, t.seconds, t.error) for t in times]
