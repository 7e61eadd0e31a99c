"""Live transcription: how late words are, and how many streams a machine keeps up with.

The reference is `one_lock.py`. A process of its own plays the recordings: `live_player.py`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import psutil

from app.config.settings import DEMO_DIR
from benchmarks.audio import tile, write_audio
from benchmarks.live_figures import NORMAL, Round, StreamTold
from benchmarks.live_spoken import REAL, Spoken, conversations, recordings, sentences, streams
from benchmarks.results import Figure, percentile, show
from benchmarks.scoring import add_up, count_errors
from benchmarks.servers import REQUEST_TIMEOUT_S, Server, running
from benchmarks.setup import OUT

GOAL_STREAMS = 4
MEDIAN_GOAL_S, P95_GOAL_S = 1.0, 2.0  # of the delay of words, at so many streams
WER_GOAL = 2.0  # points more than offline
MOST_STREAMS_RATIO = 4.0
IDLE_TIMEOUT_S = 120.0
NOTHING = Round((), 0.0)


@dataclass(frozen=True, slots=True)
class LivePlan:
    """`streams`: at once, in rising order. `beside`: the same beside a file of `long_minutes`.
    `folder`: real recordings with word times. `seconds`: length of a stream.
    """

    models: Sequence[str]
    streams: Sequence[int]
    beside: Sequence[int]
    seconds: float
    long_minutes: float
    folder: Path | None = None


def run_live(plan: LivePlan) -> Iterator[Figure]:
    """Figures of each model."""
    for model in plan.models:
        for figure in _of_model(model, plan):
            show(figure)
            yield figure


def _of_model(model: str, plan: LivePlan) -> Iterator[Figure]:
    material = (
        conversations(plan.seconds)
        if model == "demo"
        else recordings(plan.folder or REAL, plan.seconds)
    )
    settings = _settings(model)
    with running("ours", **settings) as server:
        stage = Stage(server, OUT / "live" / model)
        offline = {spoken.name: stage.offline(spoken) for spoken in material}
        stage.play(material[:1])  # warms up
        ours = stage.rounds(material, plan.streams)
        audio = tile(plan.long_minutes, OUT / "audio") if plan.beside else None
        beside = stage.rounds(material, plan.beside, audio)
        if model != "demo" and GOAL_STREAMS in plan.streams:
            many = sentences()
            offline |= {spoken.name: stage.offline(spoken) for spoken in many}
            played = stage.in_turn(many, GOAL_STREAMS)
            name = f"{model}, {GOAL_STREAMS} streams: words wrong, synthetic voices"
            yield _words_wrong(name, played, offline, is_goal=True)
    with running("one lock", **settings) as server:
        reference = Stage(server, OUT / "live" / model).rounds(material, plan.streams)
    for count, found in ours.items():
        name = f"{model}, {count} streams"
        yield from _figures(name, count, found, reference.get(count, NOTHING), offline)
    yield _most_streams(model, ours, reference)
    for count, found in beside.items():
        name = f"{model}, {count} streams beside {plan.long_minutes:g} min"
        yield from _figures(name, 0, found, NOTHING, offline)


def _settings(model: str) -> dict[str, str]:
    if model == "demo":
        weights = DEMO_DIR / "whisper"
    elif Path(model).is_dir():
        weights = Path(model).resolve()
    else:
        from tests.support.real_models import whisper_folder

        weights = whisper_folder(model, OUT / "models").resolve()
    return {
        "ASR_MODEL": str(weights),
        "ALLOWED_MODELS": str(weights),
        "PRELOAD_MODEL": str(weights),
        "ALIGN_MODELS": json.dumps({"en": str(DEMO_DIR / "align")}),
        "LIVE_MAX_STREAMS": "1000",
        "LIVE_MAX_STREAMS_PER_CLIENT": "1000",
        "JOBS": "false",
    }


class Stage:
    """Where recordings are played to one server."""

    def __init__(self, server: Server, folder: Path) -> None:
        self._server = server
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def rounds(
        self, material: list[Spoken], counts: Sequence[int], audio: Path | None = None
    ) -> dict[int, Round]:
        """Rounds with so many streams, until the first that falls behind."""
        found: dict[int, Round] = {}
        for count in counts:
            found[count] = played = self.play(streams(material, count), audio)
            if not played.keeps_up:
                break
        return found

    def in_turn(self, material: list[Spoken], count: int) -> Round:
        """All of it, so many at once."""
        rounds = [self.play(material[at : at + count]) for at in range(0, len(material), count)]
        return Round([s for each in rounds for s in each.streams], sum(r.cpu_s for r in rounds))

    def play(self, chosen: Sequence[Spoken], audio: Path | None = None) -> Round:
        """All at once. `audio`: a file that is transcribed meanwhile."""
        command = [sys.executable, "-m", "benchmarks.live_player", self._server.url]
        command += [str(self._samples(spoken)) for spoken in chosen]
        command += ["--beside", str(audio)] if audio is not None else []
        before_s = self._cpu_s()
        played = subprocess.run(
            command, cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=False
        )
        if played.returncode != 0:
            raise RuntimeError(f"the player failed:\n{played.stderr[-3000:]}")
        cpu_s = self._cpu_s() - before_s
        rows = [json.loads(line) for line in played.stdout.splitlines()]
        self._complain(rows, audio)
        told = [
            StreamTold(spoken, row["messages"], row["code"] == NORMAL)
            for spoken, row in zip(chosen, rows, strict=True)
        ]
        if audio is not None:
            self._wait_until_idle()
        return Round(told, cpu_s)

    @staticmethod
    def _complain(rows: Sequence[dict[str, object]], audio: Path | None) -> None:
        late_s = max(float(str(row["behind_s"])) for row in rows)
        if late_s > 0.25:
            print(f"the player itself was {late_s:.2f} s late: the machine is too busy", flush=True)
        if audio is not None and any(row["alone"] for row in rows):
            print("the long file ended before the streams did: make it longer", flush=True)

    def _samples(self, spoken: Spoken) -> Path:
        path = self._folder / f"{spoken.name}.npy"
        np.save(path, spoken.samples)
        return path

    def offline(self, spoken: Spoken) -> str:
        """What the server writes for the whole recording."""
        path = self._folder / f"{spoken.name}.flac"
        write_audio(path, spoken.samples, "flac", "flac")
        response = httpx.post(
            f"{self._server.url}/asr",
            params={"output": "txt", "language": "en"},
            files={"audio_file": (path.name, path.read_bytes())},
            timeout=REQUEST_TIMEOUT_S,
        )
        return response.raise_for_status().text

    def _cpu_s(self) -> float:
        """Of the server and its processes, so far."""
        process = psutil.Process(self._server.process.pid)
        times = [member.cpu_times() for member in (process, *process.children(recursive=True))]
        return sum(each.user + each.system for each in times)

    def _wait_until_idle(self) -> None:
        deadline = time.monotonic() + IDLE_TIMEOUT_S
        while time.monotonic() < deadline:
            if not httpx.get(f"{self._server.url}/queue", timeout=60).json()["requests"]:
                return
            time.sleep(0.5)
        raise RuntimeError("the server goes on with a request whose client has gone")


def _figures(
    name: str, count: int, ours: Round, reference: Round, offline: dict[str, str]
) -> Iterator[Figure]:
    """`count`: 0 where the goals do not count."""
    is_goal = count == GOAL_STREAMS
    limits = (MEDIAN_GOAL_S, P95_GOAL_S) if is_goal else (None, None)
    yield from _delays(
        f"{name}: word to committed", ours.committed_delays, reference.committed_delays, limits
    )
    yield from _delays(f"{name}: word to final", ours.final_delays)
    yield from _delays(f"{name}: end of speech to final", ours.end_delays)
    yield Figure(
        f"{name}: tentative words that change", 100 * ours.flicker,
        100 * reference.flicker if reference.streams else None, "%",
    )  # fmt: skip
    yield _words_wrong(f"{name}: words wrong", ours, offline, is_goal, reference)
    yield Figure(
        f"{name}: compute per second of audio",
        ours.compute,
        reference.compute if reference.streams else None,
        note="" if ours.keeps_up else "falls behind",
    )


def _words_wrong(
    name: str,
    ours: Round,
    offline: dict[str, str],
    is_goal: bool,
    reference: Round = NOTHING,
) -> Figure:
    heard = [count_errors(s.spoken.text, offline[s.spoken.name]) for s in ours.streams]
    allowed = 100 * add_up(heard).rate
    return Figure(
        name,
        100 * ours.errors.rate,
        100 * reference.errors.rate if reference.streams else None,
        "%",
        limit=round(allowed + WER_GOAL, 2) if is_goal else None,
        note=f"{allowed:.1f} % offline, of {ours.errors.num_words} words",
    )


def _delays(
    name: str,
    ours: Sequence[float],
    reference: Sequence[float] = (),
    limits: tuple[float | None, float | None] = (None, None),
) -> Iterator[Figure]:
    for (label, share), limit in zip((("median", 0.5), ("p95", 0.95)), limits, strict=True):
        sides = [percentile(delays, share) if delays else None for delays in (ours, reference)]
        most = ", ".join(f"{max(delays):.1f} s" for delays in (ours, reference) if delays)
        note = f"at most {most}" if share > 0.5 and most else ""
        yield Figure(f"{name}, {label}", *sides, limit=limit, note=note)


def _most_streams(model: str, ours: dict[int, Round], reference: dict[int, Round]) -> Figure:
    most = [
        max((n for n, r in side.items() if r.keeps_up), default=0) for side in (ours, reference)
    ]
    more = all(played.keeps_up for played in ours.values())
    return Figure(
        f"{model}, streams that it keeps up with",
        float(most[0]),
        float(most[1]),
        "",
        higher_is_better=True,
        bar=MOST_STREAMS_RATIO,
        note="ours: more were not tried" if more else "",
    )
