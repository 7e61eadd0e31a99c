"""A simulated day of a fleet on Ray: scaling by seconds of audio against scaling by requests.

    python -m benchmarks.fleet_day [--seed 0] [--replicas 200] [--speed 60]

Nothing is transcribed here. The service's own policy (`serving/autoscaling.py`) and its choice of a
transcriber (`serving/routing.py`) run against a model of the rest:

- Arrivals: a Poisson process whose rate follows a working day (least at 3, most at 14 o'clock), and
  two batches of long recordings at once, at 9 and at 20 o'clock. 80 % are clips (median 20 s),
  18 % meetings (median 35 min), 2 % archives (4 to 8 h); or clips only,
  for a tenth of the transcribers.
- A transcriber does `speed` seconds of audio a second with full batches of 16 chunks. Its requests
  share that equally: the service gives them turns. A batch with hardly anything in it takes a third
  of a full one's time, so a clip alone gets a sixth of the speed, and a long recording all of it.
- A new one takes a minute or two to start. One that is to end finishes its requests first. Figures
  reach the controller every 10 s; it scales up at once and down after fewer were enough for 300 s,
  whatever the policy.
- By requests, a request goes to that of two transcribers at random that has fewer, as in Ray Serve.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

import numpy as np

from app.serving.autoscaling import wanted_transcribers
from benchmarks.fleet_model import (
    ARCHIVE,
    CLIP,
    MEETING,
    Fleet,
    FullestFirst,
    Policy,
    Request,
    Router,
    TwoAtRandom,
)

A_DAY_S = 86_400.0
HOUR_S = 3_600.0
BATCHES = ((9 * HOUR_S, 2), (20 * HOUR_S, 1.25))  # when, and how many meetings for each replica
BUSY_SHARE = 0.5  # of the largest fleet, at the busiest hour
SHARES = {CLIP: 0.8, MEETING: 0.18, ARCHIVE: 0.02}
TARGETS_S = (600,)
TARGETS = (1, 2, 4, 16)
START = 10


def day(random: np.random.Generator, num_replicas: int, speed: float, mixed: bool) -> list[Request]:
    """The requests of a day, by time."""
    kinds = list(SHARES) if mixed else [CLIP]
    shares = np.array([SHARES[kind] for kind in kinds]) / sum(SHARES[kind] for kind in kinds)
    sizes = {kind: sizes_of(random, kind, 200_000) for kind in kinds}
    mean_s = sum(share * sizes[kind].mean() for share, kind in zip(shares, kinds, strict=True))
    # clips get a part of the speed only
    most_per_s = (BUSY_SHARE if mixed else BUSY_SHARE / 4) * num_replicas * speed / mean_s
    at = np.sort(random.uniform(0, A_DAY_S, random.poisson(most_per_s * A_DAY_S)))
    level = 0.55 - 0.45 * np.cos((at / HOUR_S - 3) / 24 * 2 * np.pi)
    at = at[random.uniform(size=len(at)) < level]
    chosen = random.choice(kinds, len(at), p=shares)
    audio_s = {kind: iter(sizes_of(random, kind, len(at)).tolist()) for kind in kinds}
    requests = [
        Request(t, next(audio_s[kind]), kind)
        for t, kind in zip(at.tolist(), chosen.tolist(), strict=True)
    ]
    for at_s, each in BATCHES if mixed else ():
        meetings = sizes_of(random, MEETING, round(each * num_replicas)).tolist()
        requests += [Request(at_s, size, MEETING) for size in meetings]
    return sorted(requests, key=lambda request: request.at_s)


def sizes_of(random: np.random.Generator, kind: str, count: int) -> np.ndarray:
    """Seconds of audio."""
    if kind == CLIP:
        return np.minimum(600.0, random.lognormal(math.log(20), 0.8, count))
    if kind == MEETING:
        return np.minimum(3 * HOUR_S, random.lognormal(math.log(35 * 60), 0.6, count))
    return random.uniform(4, 8, count) * HOUR_S


def by_audio(target_s: float) -> Policy:
    return lambda load: wanted_transcribers(load, target_s)


def by_requests(target: float) -> Policy:
    """What Ray Serve does without a policy of ours: so many requests for each replica."""
    return lambda load: math.ceil(load.num_requests / target)


def lag_s(ready: Sequence[tuple[float, int]], since_s: float) -> float:
    """From a batch until nine tenths of the most transcribers that the half hour after it had."""
    after = [(t, n) for t, n in ready if since_s <= t <= since_s + HOUR_S / 2]
    enough = 0.9 * max(n for _, n in after)
    return next(t for t, n in after if n >= enough) - since_s


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet_day", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--replicas", type=int, default=200, help="most transcribers")
    parser.add_argument("--speed", type=float, default=60.0, help="audio seconds a second")
    options = parser.parse_args(arguments)
    for mixed in (True, False):
        most = options.replicas if mixed else math.ceil(options.replicas / 10)
        requests = day(np.random.default_rng(options.seed), most, options.speed, mixed)
        audio_h = sum(request.audio_s for request in requests) / HOUR_S
        print(
            f"{'clips, meetings, archives' if mixed else 'clips'}: {len(requests):,} requests, "
            f"{audio_h:,.0f} h of audio, at most {most} transcribers\n\n"
            "| policy | GPU hours | used | most | lag at 9 h, s | clips: wait p50 / p95 / max, s "
            "| meetings: wait p95 / max, s |\n|---|---|---|---|---|---|---|"
        )
        _compare(requests, most, options)
    return 0


def _compare(requests: Sequence[Request], most: int, options: argparse.Namespace) -> None:
    audio: list[tuple[str, Policy, Router]] = [
        (f"{t} s of audio", by_audio(t), FullestFirst()) for t in TARGETS_S
    ]
    number: list[tuple[str, Policy, Router]] = [
        (f"{t} requests", by_requests(t), TwoAtRandom(options.seed)) for t in TARGETS
    ]
    for name, policy, router in (*audio, *number):
        fleet = Fleet(
            policy,
            router,
            most=most,
            speed=options.speed,
            seed=options.seed,
            start=min(START, most),
        )
        fleet.run(requests)
        print(_row(name, fleet, options.speed), flush=True)
    print()


def _row(name: str, fleet: Fleet, speed: float) -> str:
    clips, meetings = (np.array(fleet.waits[kind] or [0.0]) for kind in (CLIP, MEETING))
    p50, p95 = np.percentile(clips, (50, 95))
    used = fleet.audio_s / (fleet.held_s * speed)
    return (
        f"| {name} | {fleet.held_s / HOUR_S:,.0f} | {used:.0%} "
        f"| {max(n for _, n in fleet.ready)} | {lag_s(fleet.ready, BATCHES[0][0]):.0f} "
        f"| {p50:.1f} / {p95:.1f} / {clips.max():.0f} "
        f"| {np.percentile(meetings, 95):.0f} / {meetings.max():.0f} |"
    )


if __name__ == "__main__":
    raise SystemExit(main())
