"""Many callers at once with clips of 3 to 20 s: throughput and latency, both sides over HTTP."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice

from benchmarks.audio import clips, duration_s
from benchmarks.results import Figure, percentile, show
from benchmarks.servers import SIDES, Server, running
from benchmarks.setup import Plan

LEAST_REQUESTS = 8  # per level, so that a single caller gives more than one figure
NUM_CLIPS = 32


def run_callers(plan: Plan, bars: dict[str, float]) -> Iterator[Figure]:
    """Figures for each number of callers. A caller posts a clip as soon as the last is answered."""
    recordings = clips(NUM_CLIPS)
    lengths_s = [duration_s(clip) for clip in recordings]
    with running("ours") as ours, running("reference") as reference:
        servers = dict(zip(SIDES, (ours, reference), strict=True))
        for server in servers.values():
            for clip in recordings[:3]:
                server.post(clip, plan.speakers_in_clips)
        for num_callers in plan.callers:
            count = max(LEAST_REQUESTS, num_callers * plan.clips_per_caller)
            audio_s = sum(islice(cycle(lengths_s), count))
            measured = {
                side: burst(server, recordings, num_callers, count, plan.speakers_in_clips)
                for side, server in servers.items()
            }
            bar = bars.get(f"{num_callers} callers, throughput", 0)
            yield from _figures(num_callers, audio_s, measured, bar)


def burst(
    server: Server, recordings: Sequence[bytes], num_callers: int, count: int, speakers: bool
) -> tuple[float, list[float]]:
    """(seconds in all, latency of each request)."""
    started = time.perf_counter()
    with ThreadPoolExecutor(num_callers) as callers:
        posts = [
            callers.submit(server.post, clip, speakers) for clip in islice(cycle(recordings), count)
        ]
        latencies = [post.result() for post in posts]
    return time.perf_counter() - started, latencies


def _figures(
    num_callers: int,
    audio_s: float,
    measured: dict[str, tuple[float, list[float]]],
    bar: float,
) -> Iterator[Figure]:
    (ours_s, ours), (reference_s, reference) = (measured[side] for side in SIDES)
    name = f"{num_callers} callers" if num_callers > 1 else "1 caller"
    runs = {"ours": ours, "reference": reference}
    figures = [
        Figure(
            f"{name}, throughput",
            audio_s / ours_s,
            audio_s / reference_s,
            "× real time",
            higher_is_better=True,
            bar=bar,
            note=f"{len(ours)} clips, {audio_s:.0f} s of audio",
            runs=runs,
        )
    ]
    for share in (0.5, 0.95):
        figures.append(
            Figure(
                f"{name}, latency p{round(100 * share)}",
                percentile(ours, share),
                percentile(reference, share),
            )
        )
    for figure in figures:
        show(figure)
        yield figure
