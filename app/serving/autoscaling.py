"""How many transcribers a load needs: by the seconds of audio that wait, not by requests. Pure.

A request may be a clip or a recording of eight hours, so their number says little. This module
imports no Ray; Ray's controller calls `QueuedAudio`.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

QUEUED_S = "queued_audio_seconds"  # the names of a transcriber's figures
BUSY = "busy_share"
UNKNOWN_S = 30.0  # assumed for a request that no transcriber has taken yet, at least
# Fewer transcribers are wanted only if they would have at most this share of the target: else a
# load at the edge would start and end one again and again.
SCALE_DOWN_SHARE = 0.7
# And only if they would have something to do for at most this share of the time. Where enough of
# them work, little audio waits, however much there is to do: by that alone, most of them would end,
# start again, and so on.
MOST_BUSY = 0.8


@dataclass(frozen=True, slots=True)
class Load:
    """`queued_s`: seconds of audio that each transcriber still has to do. `num_waiting`: requests
    that none has taken, so that their audio is not known. `num_requests`: all of them. `busy`: for
    which share of the last minute each transcriber had anything to do.
    """

    queued_s: Sequence[float]
    num_waiting: float
    num_requests: float
    num_transcribers: int
    busy: Sequence[float] = ()


def wanted_transcribers(load: Load, target_s: float) -> int:
    """How many transcribers there should be; their bounds are for others to keep. `target_s`:
    seconds of audio for each. Never more than requests: one recording stays at one transcriber,
    however long it is.
    """
    # Not by the number of requests: the fronts' questions how transcribers are count as such.
    if load.num_waiting <= 0 and not any(load.queued_s):
        return min(_kept_busy(load), load.num_transcribers)
    audio_s = _audio_s(load)
    useful = max(1, math.ceil(load.num_requests))
    most = min(useful, max(1, math.ceil(audio_s / target_s)))
    if most >= load.num_transcribers:
        return most
    fewer = min(useful, max(1, math.ceil(audio_s / (SCALE_DOWN_SHARE * target_s))))
    return min(max(fewer, min(useful, _kept_busy(load))), load.num_transcribers)


def _kept_busy(load: Load) -> int:
    """How many transcribers have enough to do."""
    return math.ceil(round(sum(load.busy) / MOST_BUSY, 1))


def _audio_s(load: Load) -> float:
    """All audio that waits, and a guess for requests of which it is not known."""
    known_s = sum(load.queued_s)
    num_known = max(0.0, load.num_requests - load.num_waiting)
    each_s = max(UNKNOWN_S, known_s / num_known) if num_known else UNKNOWN_S
    return known_s + load.num_waiting * each_s


class Context(Protocol):
    """What Ray's controller knows of a deployment (`ray.serve.config.AutoscalingContext`)."""

    @property
    def current_num_replicas(self) -> int: ...

    @property
    def total_num_requests(self) -> float: ...

    @property
    def total_queued_requests(self) -> float: ...

    @property
    def aggregated_metrics(self) -> Mapping[str, Mapping[Hashable, float]] | None: ...


class QueuedAudio:
    """The policy, as Ray Serve calls one. Ray keeps the bounds, and waits before it scales down."""

    def __init__(self, target_s: float) -> None:
        self._target_s = target_s

    def __call__(self, context: Context) -> tuple[int, dict[str, Any]]:
        metrics = context.aggregated_metrics or {}
        load = Load(
            tuple(metrics.get(QUEUED_S, {}).values()),
            context.total_queued_requests or 0.0,
            context.total_num_requests,
            context.current_num_replicas,
            tuple(metrics.get(BUSY, {}).values()),
        )
        return wanted_transcribers(load, self._target_s), {}
