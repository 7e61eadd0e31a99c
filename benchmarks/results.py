"""Figures of both sides: measures them, compares them with the bars, prints and stores them."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

# How many times as good as the reference a figure must be. The modules of head of line and overhead
# define their own bars.
BARS = {
    "cpu": {
        "diarization": 2.0,
        "alignment": 1.0,
        "recognition": 1.0,
        "16 callers, throughput": 1.2,
        "end to end": 1.5,
    },
    "cuda": {
        "diarization": 2.5,
        "alignment": 4.0,
        "16 callers, throughput": 3.0,
        "end to end": 2.0,
    },
}


@dataclass(frozen=True, slots=True)
class Figure:
    """`ours` and `reference` in `unit`; None if that side was not measured.

    `higher_is_better` for throughput. `bar`: the least ratio, 0 for none. `limit`: if given, the
    highest value of `ours`, which then replaces the bar. `runs`: all measurements.
    """

    name: str
    ours: float | None
    reference: float | None
    unit: str = "s"
    higher_is_better: bool = False
    bar: float = 0.0
    limit: float | None = None
    note: str = ""
    runs: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """Over 1 if ours is better."""
        if not self.ours or not self.reference:
            return None
        return self.ours / self.reference if self.higher_is_better else self.reference / self.ours

    @property
    def verdict(self) -> str:
        """Whether the bar is reached; empty if there is no bar or no measurement to compare."""
        if self.limit is not None and self.ours is not None:
            return f"{'met' if self.ours <= self.limit else 'MISSED'} (at most {self.limit:g})"
        if self.bar and self.ratio is not None:
            return f"{'met' if self.ratio >= self.bar else 'MISSED'} (at least {self.bar:g}×)"
        return ""


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    outcome = call()
    return time.perf_counter() - started, outcome


def compare(
    name: str,
    ours: Callable[[], Any],
    reference: Callable[[], Any],
    repeats: int,
    bar: float = 0.0,
) -> tuple[Figure, Any, Any]:
    """The medians, and the results of the last runs."""
    runs, last = in_turn({"ours": ours, "reference": reference}, repeats)
    middle = {side: statistics.median(taken) for side, taken in runs.items()}
    figure = Figure(name, middle["ours"], middle["reference"], bar=bar, runs=dict(runs))
    show(figure)
    return figure, last["ours"], last["reference"]


def in_turn(
    calls: Mapping[str, Callable[[], Any]], repeats: int
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """(seconds of every run, results of the last runs). Runs A B A B, so that drift hits both."""
    runs: dict[str, list[float]] = {name: [] for name in calls}
    last: dict[str, Any] = {}
    for _ in range(repeats):
        for name, call in calls.items():
            last.pop(name, None)  # keeps only one result per side in memory
            took_s, last[name] = timed(call)
            runs[name].append(took_s)
    return runs, last


def show(figure: Figure) -> None:
    print(_row(figure), flush=True)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


HEADER = "| what | ours | reference | ratio | bar | note |\n|---|---:|---:|---:|---|---|"


def _row(figure: Figure) -> str:
    ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}×"
    cells = [
        figure.name,
        _quantity(figure.ours, figure.unit),
        _quantity(figure.reference, figure.unit),
        ratio,
        figure.verdict,
        figure.note,
    ]
    return f"| {' | '.join(cells)} |"


def _quantity(value: float | None, unit: str) -> str:
    return "–" if value is None else f"{value:.3g} {unit}".rstrip()


def write_markdown(head: dict[str, Any], figures: Sequence[Figure]) -> str:
    """The machine, both configurations and the table."""
    lines = []
    for title, content in head.items():
        lines.append(f"{title}: {json.dumps(content, ensure_ascii=False)}\n")
    return "\n".join([*lines, HEADER, *map(_row, figures)])


def write_json(path: Path, head: dict[str, Any], figures: Sequence[Figure]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        asdict(figure) | {"ratio": figure.ratio, "verdict": figure.verdict} for figure in figures
    ]
    content = {**head, "figures": rows}
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
