"""The latency of a 5 s clip while a long file runs, compared with its latency alone."""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.audio import DATA, cut, read_samples, tile
from benchmarks.results import Figure, percentile, show
from benchmarks.servers import SIDES, Server, running
from benchmarks.setup import OUT, Plan

CLIP_S = 5.0
ALONE = 5  # posts with nothing else running, after one to warm up
MAX_POSTS = 50
PAUSE_S = 0.5
DELAY_S = 2.0  # from the long file's start to the first clip
MAX_RATIO = 3.0


def run_head_of_line(plan: Plan) -> Iterator[Figure]:
    """Figures for a clip that is posted repeatedly, so that it meets every stage of a long file."""
    path = tile(plan.long_minutes, OUT / "audio")
    clip = cut(read_samples(DATA / "en_two.flac"), CLIP_S, random.Random(0))
    alone: dict[str, float] = {}
    behind: dict[str, list[float]] = {}
    for side in SIDES:
        with running(side) as server:
            latencies = [server.post(clip, plan.speakers_in_clips) for _ in range(ALONE + 1)]
            alone[side] = statistics.median(latencies[1:])
            behind[side] = _beside(server, path, clip, plan.speakers_in_clips)
    yield from _figures(plan, alone, behind)


def _beside(server: Server, path: Path, clip: bytes, speakers: bool) -> list[float]:
    """Latencies of clips posted while the long file runs."""
    long = threading.Thread(target=server.post, args=(path, True))
    long.start()
    time.sleep(DELAY_S)
    latencies: list[float] = []
    while long.is_alive() and len(latencies) < MAX_POSTS:
        latencies.append(server.post(clip, speakers))
        time.sleep(PAUSE_S)
    long.join()
    return latencies


def _figures(
    plan: Plan, alone: dict[str, float], behind: dict[str, list[float]]
) -> Iterator[Figure]:
    figures = [Figure("5 s clip alone", alone["ours"], alone["reference"])]
    if all(behind[side] for side in SIDES):
        name = f"5 s clip beside {plan.long_minutes:g} min"
        middle = {side: statistics.median(behind[side]) for side in SIDES}
        worst = {side: percentile(behind[side], 1.0) for side in SIDES}
        figures += [
            Figure(
                f"{name}, median",
                middle["ours"],
                middle["reference"],
                note=f"{len(behind['ours'])} clips and {len(behind['reference'])}",
                runs=dict(behind),
            ),
            Figure(f"{name}, worst", worst["ours"], worst["reference"]),
            Figure(
                f"{name}, median over alone",
                middle["ours"] / alone["ours"],
                middle["reference"] / alone["reference"],
                unit="×",
                limit=MAX_RATIO,
                note=f"worst of ours {worst['ours'] / alone['ours']:.1f}×",
            ),
        ]
    else:
        print("the long file ended before a clip could be posted: make it longer", flush=True)
    for figure in figures:
        show(figure)
        yield figure
