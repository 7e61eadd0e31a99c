"""A model of a fleet of transcribers: what `benchmarks.fleet_day` simulates, and how."""

from __future__ import annotations

import heapq
import math
import random
from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from app.serving.autoscaling import Load
from app.serving.busy import moved

CLIP, MEETING, ARCHIVE = "clip", "meeting", "archive"
CONTROL_S = 10.0
SCALE_DOWN_S = 300.0
START_S = (60.0, 120.0)
CHUNK_S = 30.0
BATCH = 16  # chunks
FIXED_SHARE = 1 / 3  # of a full batch's time, which a batch takes with hardly anything in it
FULL_S = 160.0  # of audio: as a transcriber with a GPU has it, see `serving/ray.py`
Policy = Callable[[Load], int]


@dataclass(frozen=True, slots=True)
class Request:
    at_s: float
    audio_s: float
    kind: str

    @property
    def width(self) -> int:
        """How many chunks it can have in a batch."""
        return min(BATCH, math.ceil(self.audio_s / CHUNK_S))


def share_of_speed(num_chunks: int) -> float:
    """Of what full batches do, with so many chunks in a batch."""
    fill = min(BATCH, num_chunks) / BATCH
    return fill / (FIXED_SHARE + (1 - FIXED_SHARE) * fill)


@dataclass(eq=False)
class Transcriber:
    """Processor sharing by virtual time: `done_s` is the audio that each request has had so far."""

    number: int
    ready_s: float
    speed: float
    now_s: float = 0.0
    done_s: float = 0.0
    audio_s: float = 0.0  # of ended requests
    sent_s: float = 0.0  # of others, as a front knows it
    busy: float = 0.0
    ends: bool = False
    plan: int = 0  # grows whenever the next end is another one
    _busy_s: float = 0.0
    _width: int = 0
    _ends_s: float = 0.0  # the sum of all `done_s` at their ends
    # of each request: `done_s` at its end, a number, and itself
    requests: list[tuple[float, int, Request]] = field(default_factory=list)

    @property
    def queued_s(self) -> float:
        return max(0.0, self._ends_s - self.done_s * len(self.requests))

    @property
    def _each_per_s(self) -> float:
        return self.speed * share_of_speed(self._width) / len(self.requests)

    @property
    def next_end_s(self) -> float:
        left_s = max(0.0, self.requests[0][0] - self.done_s)
        return max(self.now_s, self.ready_s) + left_s / self._each_per_s

    def advance(self, until_s: float) -> None:
        """Nothing ends before."""
        since_s = max(self.now_s, self.ready_s)
        if self.requests and until_s > since_s:
            self.done_s += (until_s - since_s) * self._each_per_s
            self._busy_s += until_s - since_s
        self.now_s = max(self.now_s, until_s)

    def end(self) -> Request:
        """The next one, whose time has come."""
        self.done_s, _, request = heapq.heappop(self.requests)
        self._ends_s -= self.done_s
        self._width -= request.width
        self.audio_s += request.audio_s
        self.sent_s -= request.audio_s
        self.plan += 1
        return request

    def take(self, number: int, request: Request) -> None:
        end_s = self.done_s + request.audio_s
        heapq.heappush(self.requests, (end_s, number, request))
        self._ends_s += end_s
        self._width += request.width
        self.sent_s += request.audio_s
        self.plan += 1

    def report(self, seconds: float) -> None:
        self.busy = moved(self.busy, self._busy_s / seconds, seconds)
        self._busy_s = 0.0


class Router(Protocol):
    def renew(self, able: Sequence[Transcriber]) -> None: ...

    def choose(self) -> Transcriber: ...

    def changed(self, transcriber: Transcriber, before_s: float) -> None:
        """It has another load than before."""


class FullestFirst:
    """What `serving/routing.py` chooses if all have the model, without looking at all of them."""

    def renew(self, able: Sequence[Transcriber]) -> None:
        self._by_number = {t.number: t for t in able}
        self._ranked = sorted((t.sent_s, -t.number) for t in able)

    def choose(self) -> Transcriber:
        place = bisect_left(self._ranked, (FULL_S,))
        return self._by_number[-self._ranked[max(0, place - 1)][1]]

    def changed(self, transcriber: Transcriber, before_s: float) -> None:
        if transcriber.number in self._by_number:
            del self._ranked[bisect_left(self._ranked, (before_s, -transcriber.number))]
            insort(self._ranked, (transcriber.sent_s, -transcriber.number))


class TwoAtRandom:
    """What Ray Serve does by itself: of two, the one with fewer requests."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def renew(self, able: Sequence[Transcriber]) -> None:
        self._able = able

    def choose(self) -> Transcriber:
        a, b = (self._able[int(self._random.random() * len(self._able))] for _ in range(2))
        return a if len(a.requests) <= len(b.requests) else b

    def changed(self, transcriber: Transcriber, before_s: float) -> None:
        pass


class Fleet:
    """One day of one policy, from one event to the next."""

    def __init__(
        self, policy: Policy, router: Router, *, most: int, speed: float, seed: int, start: int
    ) -> None:
        self._policy = policy
        self._router = router
        self._most = most
        self._speed = speed
        self._random = random.Random(seed)
        self._transcribers = [Transcriber(i, 0.0, speed) for i in range(start)]
        self._num_started = start
        self._next_ready_s = 0.0
        self._ends: list[tuple[float, int, int, Transcriber]] = []  # when, of which plan, whose
        self._enough_since: float | None = None  # since when fewer would have been enough
        self._ended_audio_s = 0.0
        self.held_s = 0.0  # of all transcribers, from their start
        self.waits: dict[str, list[float]] = {kind: [] for kind in (CLIP, MEETING, ARCHIVE)}
        self.ready: list[tuple[float, int]] = []  # when, and how many could work

    @property
    def audio_s(self) -> float:
        return self._ended_audio_s + sum(t.audio_s for t in self._transcribers)

    def run(self, requests: Sequence[Request]) -> None:
        control_s = 0.0
        for number, request in enumerate(requests):
            while control_s <= request.at_s:
                self._control(control_s)
                control_s += CONTROL_S
            self._until(request.at_s)
            self._take(number, request)
        while any(transcriber.requests for transcriber in self._transcribers):
            self._control(control_s)
            control_s += CONTROL_S

    def _take(self, number: int, request: Request) -> None:
        if self._next_ready_s <= request.at_s:
            self._renew(request.at_s)
        chosen = self._router.choose()
        chosen.advance(request.at_s)
        before_s = chosen.sent_s
        chosen.take(number, request)
        self._router.changed(chosen, before_s)
        self._plan(chosen)

    def _plan(self, transcriber: Transcriber) -> None:
        if transcriber.requests:
            entry = (transcriber.next_end_s, transcriber.plan, transcriber.number, transcriber)
            heapq.heappush(self._ends, entry)

    def _until(self, until_s: float) -> None:
        """All ends until then."""
        while self._ends and self._ends[0][0] <= until_s:
            end_s, plan, _, transcriber = heapq.heappop(self._ends)
            if plan == transcriber.plan:
                self._end(transcriber, end_s)

    def _end(self, transcriber: Transcriber, end_s: float) -> None:
        transcriber.advance(end_s)
        before_s = transcriber.sent_s
        request = transcriber.end()
        self._router.changed(transcriber, before_s)
        self._plan(transcriber)
        alone_s = request.audio_s / (self._speed * share_of_speed(request.width))
        self.waits[request.kind].append(max(0.0, end_s - request.at_s - alone_s))

    def _renew(self, now_s: float) -> None:
        """Those that start take requests only if no other is there, as Ray has it."""
        serving = [t for t in self._transcribers if not t.ends]
        able = [t for t in serving if t.ready_s <= now_s]
        self._router.renew(able or serving)
        self._next_ready_s = min(
            (t.ready_s for t in serving if t.ready_s > now_s), default=float("inf")
        )

    def _control(self, now_s: float) -> None:
        self._until(now_s)
        for transcriber in self._transcribers:
            transcriber.advance(now_s)
            transcriber.report(CONTROL_S)
        for transcriber in [t for t in self._transcribers if t.ends and not t.requests]:
            self._ended_audio_s += transcriber.audio_s
            self._transcribers.remove(transcriber)
        self.held_s += CONTROL_S * len(self._transcribers)
        self.ready.append((now_s, sum(t.ready_s <= now_s for t in self._transcribers)))
        serving = [t for t in self._transcribers if not t.ends]
        queued, busy = tuple(t.queued_s for t in serving), tuple(t.busy for t in serving)
        num_requests = sum(len(t.requests) for t in serving)
        load = Load(queued, 0, num_requests, len(serving), busy)
        self._scale(max(1, min(self._most, self._policy(load))), serving, now_s)
        self._renew(now_s)

    def _scale(self, wanted: int, serving: list[Transcriber], now_s: float) -> None:
        if wanted >= len(serving):
            self._enough_since = None
            for _ in range(wanted - len(serving)):
                ready_s = now_s + self._random.uniform(*START_S)
                self._transcribers.append(Transcriber(self._num_started, ready_s, self._speed))
                self._num_started += 1
        elif self._enough_since is None:
            self._enough_since = now_s
        elif now_s - self._enough_since >= SCALE_DOWN_S:
            self._enough_since = None
            idle_first = sorted(serving, key=lambda t: (t.queued_s, -t.ready_s))
            for transcriber in idle_first[: len(serving) - wanted]:
                transcriber.ends = True
