"""What the queue costs: clips and a long file as jobs, and the same through /asr of one service.

In these figures the column of the reference is the service's own /asr.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.audio import clips, tile
from benchmarks.memory import Peak, peak
from benchmarks.results import Figure, show
from benchmarks.servers import REQUEST_TIMEOUT_S, Server, running
from benchmarks.setup import OUT, Plan

CALLERS = 4  # and as many workers
NUM_CLIPS = 32
MOST_OVERHEAD = 1.10
MOST_IDLE = 0.01  # of a core
MOST_STATUS_S = 0.05
SETTLE_S = 65.0  # in its first minute, DBOS looks for schedules every second
POLL_S = 0.5  # who asks more often takes what it wants to measure


def run_jobs(plan: Plan) -> Iterator[Figure]:
    if plan.job_clips:
        yield from _shown(_throughput(plan.job_clips, plan.speakers_in_clips))
    if plan.idle_s:
        yield from _shown(_idle(plan.idle_s))
    for minutes in filter(None, plan.job_minutes):
        yield from _shown(_memory(minutes))


def _shown(figures: Iterator[Figure]) -> Iterator[Figure]:
    for figure in figures:
        show(figure)
        yield figure


def _throughput(count: int, speakers: bool) -> Iterator[Figure]:
    recordings = clips(NUM_CLIPS)
    statuses: list[float] = []
    with running("ours", JOB_WORKERS=str(CALLERS), MAX_JOBS="100000") as server:
        for clip in recordings[:3]:
            server.post(clip, speakers)
        chosen = list(islice(cycle(recordings), count))
        # half, all, half: so that drift hits both
        asr = _burst(server, chosen[: count // 2], lambda clip: server.post(clip, speakers))
        jobs = _burst(
            server,
            chosen,
            lambda clip: submit(server, clip, speakers),
            lambda: wait(server, statuses),
        )
        asr += _burst(server, chosen[count // 2 :], lambda clip: server.post(clip, speakers))
        failed = _total(server, "failed")
    yield Figure(
        f"{count} clips as jobs, against {CALLERS} callers of /asr",
        count / jobs.seconds * 60,
        count / asr.seconds * 60,
        "/min",
        higher_is_better=True,
        bar=round(1 / MOST_OVERHEAD, 3),
        note=f"{jobs.seconds / asr.seconds - 1:+.1%} time"
        + (f", {failed} FAILED" if failed else ""),
    )
    yield Figure(
        "CPU seconds of such a clip as a job, against /asr",
        jobs.cpu_s / count,
        asr.cpu_s / count,
        "s",
        bar=round(1 / MOST_OVERHEAD, 3),
        note="of all processes of the service; holds on a busy machine, too",
    )
    yield from _latency(statuses)


def _latency(statuses: list[float]) -> Iterator[Figure]:
    """Of /status, while jobs ran."""
    if len(statuses) < 2:
        return
    ordered = sorted(statuses)
    p95 = ordered[round(0.95 * (len(ordered) - 1))]
    yield Figure(
        "median of /status while jobs run",
        statistics.median(ordered),
        None,
        limit=MOST_STATUS_S,
        note=f"p95 {p95 * 1000:.0f} ms, longest {ordered[-1] * 1000:.0f} ms, "
        f"{len(ordered)} requests",
    )


@dataclass(frozen=True, slots=True)
class Burst:
    """What some recordings took: time, and CPU time of all processes of the service."""

    seconds: float
    cpu_s: float

    def __add__(self, other: Burst) -> Burst:
        return Burst(self.seconds + other.seconds, self.cpu_s + other.cpu_s)


def _burst(
    server: Server,
    recordings: list[bytes],
    send: Callable[[bytes], object],
    finish: Callable[[], object] = lambda: None,
) -> Burst:
    started, cpu_s = time.perf_counter(), _cpu_s(server)
    with ThreadPoolExecutor(CALLERS) as callers:
        for sent in [callers.submit(send, clip) for clip in recordings]:
            sent.result()
    finish()
    return Burst(time.perf_counter() - started, _cpu_s(server) - cpu_s)


def _cpu_s(server: Server) -> float:
    """CPU time that the processes of a service have used."""
    main = psutil.Process(server.process.pid)
    times = [process.cpu_times() for process in (main, *main.children(recursive=True))]
    ended = main.cpu_times()
    return sum(one.user + one.system for one in times) + ended.children_user + ended.children_system


def submit(server: Server, audio: bytes | Path, diarize: bool) -> str:
    """The job's ID."""
    content = audio if isinstance(audio, bytes) else audio.open("rb")
    response = httpx.post(
        f"{server.url}/transcribe",
        data={"diarization": str(diarize).lower(), "lang": "en"},
        files={"file": ("audio", content)},
        timeout=REQUEST_TIMEOUT_S,
    )
    return str(response.raise_for_status().json()["task_id"])


def wait(server: Server, statuses: list[float] | None = None) -> None:
    """Until all jobs have ended. `statuses` gets the seconds that /status took meanwhile."""
    with httpx.Client(base_url=server.url, timeout=60) as client:
        while page := _page(client, "queued,processing"):
            started = time.perf_counter()
            client.get(f"/status/{page[0]['task_id']}").raise_for_status()
            if statuses is not None:
                statuses.append(time.perf_counter() - started)
            time.sleep(POLL_S)


def _page(client: httpx.Client, status: str) -> list[dict[str, Any]]:
    response = client.get("/history", params={"status": status, "limit": "1"})
    tasks: list[dict[str, Any]] = response.raise_for_status().json()["tasks"]
    return tasks


def _total(server: Server, status: str) -> int:
    query = {"status": status, "limit": "1"}
    response = httpx.get(f"{server.url}/history", params=query, timeout=60)
    return int(response.raise_for_status().json()["total"])


def _idle(idle_s: float) -> Iterator[Figure]:
    """Cores that a service uses to which nobody talks."""
    cores = {jobs: _idle_cores(jobs, idle_s) for jobs in ("true", "false")}
    yield Figure(
        "idle CPU because of the jobs",
        cores["true"] - cores["false"],
        None,
        "cores",
        limit=MOST_IDLE,
        note=f"{cores['true']:.4f} with and {cores['false']:.4f} without, over {idle_s:g} s",
    )


def _idle_cores(jobs: str, idle_s: float) -> float:
    with running("ours", JOBS=jobs) as server:
        process = psutil.Process(server.process.pid)
        time.sleep(SETTLE_S)
        before = process.cpu_times()
        time.sleep(idle_s)
        after = process.cpu_times()
    return (after.user + after.system - before.user - before.system) / idle_s


def _memory(minutes: float) -> Iterator[Figure]:
    recording = tile(minutes, OUT / "audio")

    def as_job(server: Server) -> None:
        submit(server, recording, diarize=True)
        wait(server)
        if _total(server, "failed"):
            raise RuntimeError(f"the job of {minutes:g} minutes failed: see {OUT / 'ours.log'}")

    job, asr = peak("ours", as_job), peak("ours", lambda server: server.post(recording, True))
    for name, of in (("resident", _resident), ("shared with nobody", _unique)):
        yield Figure(f"peak memory {name}, {minutes:g} min as a job", of(job), of(asr), "GB")


def _resident(found: Peak) -> float:
    return found.resident


def _unique(found: Peak) -> float:
    return found.unique
