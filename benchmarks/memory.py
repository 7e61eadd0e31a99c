"""Peak memory of a fresh server while it transcribes and diarizes one recording."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import psutil

from benchmarks.audio import tile
from benchmarks.results import Figure, show
from benchmarks.servers import Server, running
from benchmarks.setup import OUT, Plan

SAMPLING_S = 0.25
MAX_GB = {480.0: 6.0}  # by minutes
GB = 2**30


@dataclass(frozen=True, slots=True)
class Peak:
    """In GB. `resident`: the kernel's figure for the server process, mapped files included.

    `unique`: memory that the server and its children share with no other process, sampled.
    """

    resident: float
    unique: float
    before: float


def run_memory(plan: Plan) -> Iterator[Figure]:
    for minutes in plan.memory_minutes:
        peaks = {"ours": _peak("ours", minutes)}
        if minutes <= plan.reference_memory_minutes:
            peaks["reference"] = _peak("reference", minutes)
        yield from _figures(minutes, peaks)


def _figures(minutes: float, peaks: Mapping[str, Peak]) -> Iterator[Figure]:
    ours, reference = peaks["ours"], peaks.get("reference")
    for figure in (
        Figure(
            f"peak resident memory, {minutes:g} min",
            ours.resident,
            reference.resident if reference else None,
            "GB",
            limit=MAX_GB.get(minutes),
            note=f"{ours.before:.2f} GB of ours before it",
        ),
        Figure(
            f"peak memory shared with nobody, {minutes:g} min",
            ours.unique,
            reference.unique if reference else None,
            "GB",
        ),
    ):
        show(figure)
        yield figure


def _peak(side: str, minutes: float) -> Peak:
    recording = tile(minutes, OUT / "audio")
    return peak(side, lambda server: server.post(recording, diarize=True))


def peak(side: str, send: Callable[[Server], object]) -> Peak:
    """Of a fresh server while `send` has it work."""
    warm_up = tile(0.5, OUT / "audio")
    with running(side) as server:
        server.post(warm_up, diarize=True)
        before = psutil.Process(server.process.pid).memory_info().rss / GB
        stop = threading.Event()
        unique: list[float] = []
        sampler = threading.Thread(target=_sample, args=(server, stop, unique))
        sampler.start()
        try:
            send(server)
        finally:
            stop.set()
            sampler.join()
        return Peak(_high_water(server), max(unique), before)


def _sample(server: Server, stop: threading.Event, unique: list[float]) -> None:
    process = psutil.Process(server.process.pid)
    while not stop.wait(SAMPLING_S):
        total = 0
        for member in (process, *process.children(recursive=True)):
            try:
                total += member.memory_full_info().uss
            except psutil.NoSuchProcess:
                continue
        unique.append(total / GB)


def _high_water(server: Server) -> float:
    """The kernel's peak, VmHWM, which sampling could miss (Linux)."""
    with open(f"/proc/{server.process.pid}/status") as status:  # noqa: PTH123
        line = next(line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / GB
