"""Compares what each side wrote for recordings with known words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.material.recording import Recording
from benchmarks.results import Figure
from benchmarks.scoring import Errors, add_up

TEXTS = ("sentences", "languages", "real")  # kinds that are counted by word, not by clip


@dataclass
class Score:
    """Scores of one side by recording name. `took_s` and `audio_s` cover only the texts."""

    errors: dict[str, Errors] = field(default_factory=dict)
    heard: dict[str, str] = field(default_factory=dict)
    took_s: float = 0.0
    audio_s: float = 0.0

    @property
    def rtfx(self) -> float:
        """Seconds of audio per second of processing."""
        return self.audio_s / self.took_s if self.took_s else 0.0

    def of(self, recordings: Sequence[Recording], kind: str) -> Errors:
        return add_up(self.errors[r.name] for r in recordings if r.kind == kind)

    def num_right(self, recordings: Sequence[Recording], kind: str) -> int:
        found = [self.errors[r.name] for r in recordings if r.kind == kind]
        return sum(e.lost + e.changed + e.added == 0 for e in found)


@dataclass(frozen=True, slots=True)
class Measure:
    """One quantity that is counted for each side."""

    name: str
    count: Callable[[Score], float]
    unit: str = ""
    higher_is_better: bool = False

    def figure(self, side: str, scores: Mapping[str, Score], peers: Sequence[str]) -> Figure:
        """One of our sides compared with the best of the peers."""
        better = max if self.higher_is_better else min
        best = better(self.count(scores[peer]) for peer in peers)
        return Figure(
            f"{self.name}, {side}",
            self.count(scores[side]),
            best,
            self.unit,
            self.higher_is_better,
            bar=1.0 if self.higher_is_better else 0.0,
            limit=None if self.higher_is_better else best,
            runs={name: [self.count(score)] for name, score in scores.items()},
        )


def measures(recordings: Sequence[Recording]) -> Iterator[Measure]:
    kinds = {recording.kind for recording in recordings}
    for kind in TEXTS:
        if kind in kinds:
            for error in ("lost", "changed", "added"):
                yield Measure(f"words {error}, {kind}", _counter(recordings, kind, error))
    if "commands" in kinds:
        yield Measure("short clips right", lambda s: s.num_right(recordings, "commands"), "", True)
    if "nothing" in kinds:
        yield Measure("words invented", _counter(recordings, "nothing", "added"))
    if kinds & set(TEXTS):
        yield Measure("speed", lambda score: score.rtfx, "×", True)


def _counter(recordings: Sequence[Recording], kind: str, error: str) -> Callable[[Score], float]:
    def count(score: Score) -> float:
        return float(getattr(score.of(recordings, kind), error))

    return count


def describe(recordings: Sequence[Recording], scores: Mapping[str, Score]) -> str:
    """A table with a column for each side."""
    some = next(iter(scores.values()))
    lines = ["", f"| what | {' | '.join(scores)} |", "|---|" + "---:|" * len(scores)]
    for measure in measures(recordings):
        cells = [f"{measure.count(score):.3g}{measure.unit}" for score in scores.values()]
        lines.append(f"| {measure.name} | {' | '.join(cells)} |")
    totals = [
        f"{kind}: {sum(r.kind == kind for r in recordings)} recordings, "
        f"{some.of(recordings, kind).num_words} words"
        for kind in dict.fromkeys(recording.kind for recording in recordings)
    ]
    return "\n".join([*lines, "", "; ".join(totals), ""])
