"""A simulated day of a fleet on Ray: scaling by seconds of audio against scaling by requests.

    python -m benchmarks.fleet_day [--seed 0] [--replicas 200] [--speed 60]

Nothing is transcribed here. The service's own policy (`serving/autoscaling.py`) and its choice of a
transcriber (`serving/routing.py`) run against a model of the rest:

- Arrivals: a Poisson process whose rate follows a working day (least at 3, most at 14 o'clock), and
  two batches of long recordings at once, at 9 and at 20 o'clock. 80 % are clips (median 20 s), 18 %
  meetings (median 35 min), 2 % archives (4 to 8 h).
- A transcriber does `speed` seconds of audio a second, shared equally by its requests: the service
  gives them turns.
- A new one takes a minute or two to start. One that is to end finishes its requests first. Figures
  reach the controller every 10 s; it scales up at once and down after fewer were enough for 300 s.
"""

from __future__ import annotations

import argparse
import heapq
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from app.serving.autoscaling import Load, wanted_transcribers
from app.serving.routing import Candidate, ranked

A_DAY_S = 86_400.0
HOUR_S = 3_600.0
CONTROL_S = 10.0
SCALE_DOWN_S = 300.0
START_S = (60.0, 120.0)
BATCHES = ((9 * HOUR_S, 400), (20 * HOUR_S, 250))  # when, and how many meetings at once
BUSY_SHARE = 0.7  # of the largest fleet, at the busiest hour
CLIP, MEETING, ARCHIVE = "clip", "meeting", "archive"
SHARES = {CLIP: 0.8, MEETING: 0.18, ARCHIVE: 0.02}
FULL_S = 600.0  # of audio: a transcriber with more takes no request while others have less
TARGETS_S = (600, 3600)
Policy = Callable[[Load], int]


@dataclass(frozen=True, slots=True)
class Request:
    at_s: float
    audio_s: float
    kind: str


@dataclass
class Transcriber:
    """Processor sharing by virtual time: `done_s` is the audio that each request has had so far."""

    number: int
    ready_s: float
    speed: float
    now_s: float = 0.0
    done_s: float = 0.0
    busy_s: float = 0.0
    queued_s: float = 0.0
    ends: bool = False
    # of each request: `done_s` at its end, a number, and itself
    requests: list[tuple[float, int, Request]] = field(default_factory=list)

    def advance(self, until_s: float) -> Iterator[tuple[Request, float]]:
        """The requests that end until then, and when."""
        self.now_s = max(self.now_s, min(self.ready_s, until_s))
        while self.requests:
            per_s = self.speed / len(self.requests)
            end_s = self.now_s + max(0.0, self.requests[0][0] - self.done_s) / per_s
            step_s = min(end_s, until_s) - self.now_s
            self.done_s += step_s * per_s
            self.busy_s += step_s
            self.now_s += step_s
            if end_s > until_s:
                return
            yield heapq.heappop(self.requests)[2], end_s
        self.now_s = max(self.now_s, until_s)

    def take(self, number: int, request: Request) -> None:
        heapq.heappush(self.requests, (self.done_s + request.audio_s, number, request))
        self.queued_s += request.audio_s

    def report(self) -> None:
        """Between reports, a router knows only what it has added itself."""
        self.queued_s = sum(end for end, _, _ in self.requests) - self.done_s * len(self.requests)


def day(random: np.random.Generator, most_audio_per_s: float) -> list[Request]:
    """The requests of a day, by time. `most_audio_per_s`: arriving at the busiest hour."""
    sizes = {kind: np.mean([_audio_s(random, kind) for _ in range(20_000)]) for kind in SHARES}
    mean_s = sum(share * sizes[kind] for kind, share in SHARES.items())
    most_per_s = most_audio_per_s / mean_s
    at = np.sort(random.uniform(0, A_DAY_S, random.poisson(most_per_s * A_DAY_S)))
    level = 0.55 - 0.45 * np.cos((at / HOUR_S - 3) / 24 * 2 * np.pi)
    kinds = random.choice(list(SHARES), len(at), p=list(SHARES.values()))
    kept = random.uniform(size=len(at)) < level
    requests = [
        Request(float(t), _audio_s(random, str(kind)), str(kind))
        for t, kind in zip(at[kept], kinds[kept], strict=True)
    ]
    for at_s, number in BATCHES:
        requests += [Request(at_s, _audio_s(random, MEETING), MEETING) for _ in range(number)]
    return sorted(requests, key=lambda request: request.at_s)


def _audio_s(random: np.random.Generator, kind: str) -> float:
    if kind == CLIP:
        return float(min(600.0, random.lognormal(math.log(20), 0.8)))
    if kind == MEETING:
        return float(min(3 * HOUR_S, random.lognormal(math.log(35 * 60), 0.6)))
    return float(random.uniform(4, 8) * HOUR_S)


class Fleet:
    """One day of one policy."""

    def __init__(
        self, policy: Policy, most: int, speed: float, full_s: float, seed: int, start: int
    ) -> None:
        self._policy = policy
        self._most = most
        self._speed = speed
        self._full_s = full_s
        self._random = np.random.default_rng(seed)
        self._transcribers = [Transcriber(i, 0.0, speed) for i in range(start)]
        self._num_started = start
        self._enough_since: float | None = None  # since when fewer would have been enough
        self._ended_busy_s = 0.0
        self.held_s = 0.0  # of all transcribers, from their start
        self.waits: dict[str, list[float]] = {kind: [] for kind in SHARES}
        self.most_held = start

    def run(self, requests: list[Request]) -> None:
        control_s = CONTROL_S
        for number, request in enumerate(requests):
            while control_s <= request.at_s:
                self._control(control_s)
                control_s += CONTROL_S
            best = self._best(request.at_s)
            self._advance(best, request.at_s)
            best.take(number, request)
        while any(transcriber.requests for transcriber in self._transcribers):
            self._control(control_s)
            control_s += CONTROL_S
        self.busy_s = self._ended_busy_s + sum(t.busy_s for t in self._transcribers)

    def _advance(self, transcriber: Transcriber, until_s: float) -> None:
        for request, end_s in transcriber.advance(until_s):
            alone_s = request.audio_s / self._speed
            self.waits[request.kind].append(max(0.0, end_s - request.at_s - alone_s))

    def _best(self, now_s: float) -> Transcriber:
        """Those that start take requests only if no other is there, as Ray has it."""
        able = [t for t in self._transcribers if not t.ends and t.ready_s <= now_s]
        able = able or [t for t in self._transcribers if not t.ends]
        by_number = {transcriber.number: transcriber for transcriber in able}
        candidates = [Candidate(t.number, frozenset({"model"}), t.queued_s) for t in able]
        return by_number[ranked(candidates, "model", self._full_s)[0]]

    def _control(self, now_s: float) -> None:
        for transcriber in self._transcribers:
            self._advance(transcriber, now_s)
            transcriber.report()
        for transcriber in [t for t in self._transcribers if t.ends and not t.requests]:
            self._ended_busy_s += transcriber.busy_s
            self._transcribers.remove(transcriber)
        self.held_s += CONTROL_S * len(self._transcribers)
        self.most_held = max(self.most_held, len(self._transcribers))
        serving = [t for t in self._transcribers if not t.ends]
        num_requests = sum(len(t.requests) for t in serving)
        load = Load(tuple(t.queued_s for t in serving), 0, num_requests, len(serving))
        self._scale(max(1, min(self._most, self._policy(load))), serving, now_s)

    def _scale(self, wanted: int, serving: list[Transcriber], now_s: float) -> None:
        if wanted >= len(serving):
            self._enough_since = None
            for _ in range(wanted - len(serving)):
                ready_s = now_s + float(self._random.uniform(*START_S))
                self._transcribers.append(Transcriber(self._num_started, ready_s, self._speed))
                self._num_started += 1
        elif self._enough_since is None:
            self._enough_since = now_s
        elif now_s - self._enough_since >= SCALE_DOWN_S:
            self._enough_since = None
            idle_first = sorted(serving, key=lambda t: (t.queued_s, -t.ready_s))
            for transcriber in idle_first[: len(serving) - wanted]:
                transcriber.ends = True


def by_audio(target_s: float) -> Policy:
    return lambda load: wanted_transcribers(load, target_s)


def by_requests(target: float) -> Policy:
    """What Ray Serve does without a policy of ours: so many requests for each replica."""
    return lambda load: math.ceil(load.num_requests / target)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet_day", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--replicas", type=int, default=200, help="most transcribers")
    parser.add_argument("--speed", type=float, default=60.0, help="audio seconds a second")
    options = parser.parse_args(arguments)
    requests = day(
        np.random.default_rng(options.seed), BUSY_SHARE * options.replicas * options.speed
    )
    audio_h = sum(request.audio_s for request in requests) / HOUR_S
    print(f"{len(requests):,} requests, {audio_h:,.0f} h of audio, {options.replicas} transcribers")
    print(
        "| policy | GPU hours | busy | most | clips: wait p50 / p95 / max s "
        "| meetings: wait p95 / max s |\n|---|---|---|---|---|---|"
    )
    policies: list[tuple[str, Policy, float]] = [
        *((f"{target} s of audio", by_audio(target), FULL_S) for target in TARGETS_S),
        *((f"{target} requests", by_requests(target), FULL_S) for target in (1, 2, 4)),
    ]
    for name, policy, full_s in policies:
        fleet = Fleet(policy, options.replicas, options.speed, full_s, options.seed, start=10)
        fleet.run(requests)
        print(_row(name, fleet), flush=True)
    return 0


def _row(name: str, fleet: Fleet) -> str:
    clips, meetings = (np.array(fleet.waits[kind]) for kind in (CLIP, MEETING))
    p50, p95 = np.percentile(clips, (50, 95))
    return (
        f"| {name} | {fleet.held_s / HOUR_S:,.0f} | {fleet.busy_s / fleet.held_s:.0%} "
        f"| {fleet.most_held} | {p50:.1f} / {p95:.1f} / {clips.max():.0f} "
        f"| {np.percentile(meetings, 95):.0f} / {meetings.max():.0f} |"
    )


if __name__ == "__main__":
    raise SystemExit(main())
