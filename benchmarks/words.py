"""Which words arrive: ours, with an aligner and without, beside bare faster-whisper on the same
weights, with and without its speech detection. Needs no internet and no synthesizer, except for
material of another seed.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from faster_whisper import WhisperModel

from app.settings import DEMO_DIR
from benchmarks.audio import DATA, read_samples, write_audio
from benchmarks.material.nothing import quiet_recordings
from benchmarks.material.recording import Recording, read_pack
from benchmarks.material.synthesis import SHIPPED, SHIPPED_SEED, synthesize
from benchmarks.ours import Ours
from benchmarks.results import Figure, show
from benchmarks.scoring import Errors, add_up, least_errors
from benchmarks.setup import OUT, apply_settings

REAL = DATA / "real"
ENGLISH = ("sentences", "commands", "real", "nothing")
PEERS = ("faster-whisper", "faster-whisper with VAD")
# ours: which settings make each path
PATHS = {
    # the demo's aligner knows the English letters: its times are poor, its words are those heard
    "with an aligner": {"ALIGN_MODELS": json.dumps({"en": str(DEMO_DIR / "align")})},
    # a folder that is no aligner, for a service that knows no WORD_ALIGNER
    "without an aligner": {
        "WORD_ALIGNER": "whisper",
        "ALIGN_MODELS": json.dumps({"en": str(DEMO_DIR / "diarization")}),
    },
}

SIDES = ("aligned", "unaligned", "peers")  # the first two in the order of PATHS

Transcribe = Callable[[Path, str], str]


@dataclass
class Score:
    """What one side made of the material. `heard`: by recording, for whoever looks for a fault."""

    errors: dict[str, Errors] = field(default_factory=dict)
    heard: dict[str, str] = field(default_factory=dict)
    took_s: float = 0.0
    audio_s: float = 0.0

    def of(self, recordings: Sequence[Recording], kind: str) -> Errors:
        return add_up(self.errors[r.name] for r in recordings if r.kind == kind)

    def num_right(self, recordings: Sequence[Recording], kind: str) -> int:
        found = [self.errors[r.name] for r in recordings if r.kind == kind]
        return sum(e.lost + e.changed + e.added == 0 for e in found)


def run_words(
    model: str, seed: int, kinds: Sequence[str] = (), sides: Sequence[str] = SIDES
) -> Iterator[Figure]:
    """`model`: tiny.en, base, or a folder. `seed`: 0 is the shipped material."""
    folder = OUT / "words" / f"seed-{seed}"
    recordings = [r for r in material(seed) if not kinds or r.kind in kinds]
    if model.endswith(".en"):
        recordings = [r for r in recordings if r.language == "en"]
    paths = write_material(recordings, folder)
    weights = _weights(model)
    scores: dict[str, Score] = {}
    for side, (name, settings) in zip(SIDES, PATHS.items(), strict=False):
        if side in sides:
            ours = _ours(weights, settings)
            scores[f"ours {name}"] = _score(recordings, paths, ours.text)
            ours.close()
    if "peers" in sides:
        scores |= _score_peers(recordings, paths, weights)
    _write_details(folder / f"heard-{Path(model).name}.json", recordings, scores)
    print(describe(recordings, scores), flush=True)
    if set(sides) == set(SIDES):
        for figure in _figures(recordings, scores):
            show(figure)
            yield figure


def material(seed: int) -> list[Recording]:
    """All of it, the real recordings included.

    Raises:
        FileNotFoundError: another seed than the shipped one, and no synthesizer.
    """
    if seed == SHIPPED_SEED:
        spoken = [r for kind in ("sentences", "commands", "languages") for r in read_pack(SHIPPED, kind)]
    else:
        spoken = synthesize(seed)
    return [*spoken, *_real_recordings(), *quiet_recordings(seed)]


def _real_recordings() -> Iterator[Recording]:
    for path in sorted(REAL.glob("*.flac")):
        truth = json.loads(path.with_suffix(".json").read_text())
        yield Recording(path.stem, "real", "en", (truth["text"],), read_samples(path))


def write_material(recordings: Sequence[Recording], folder: Path) -> dict[str, Path]:
    """By name: WAV files, as both sides read them. truth.json lists them."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {r.name: folder / f"{r.name}.wav" for r in recordings}
    for recording in recordings:
        write_audio(paths[recording.name], recording.samples, "wav", "pcm_s16le")
    rows = [
        {"file": paths[r.name].name, "kind": r.kind, "language": r.language, "texts": r.texts}
        for r in recordings
    ]
    (folder / "truth.json").write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    return paths


def _weights(model: str) -> Path:
    if Path(model).is_dir():
        return Path(model).resolve()
    from tests.real_models import whisper_folder

    return whisper_folder(model, OUT / "models")


def _threads() -> int:
    return int(os.environ.get("CPU_THREADS") or 0) or len(os.sched_getaffinity(0))


def _ours(weights: Path, settings: dict[str, str]) -> Ours:
    os.environ |= {
        "ASR_MODEL": str(weights),
        "ALLOWED_MODELS": str(weights),
        "HF_HUB_OFFLINE": "1",
        "CACHE_DIR": str(OUT / "cache"),
        "TEMP_DIR": str(OUT / f"tmp-words-{os.getpid()}"),
        "COMPUTE_TYPE": os.environ.get("COMPUTE_TYPE") or "int8",
        "CPU_THREADS": str(_threads()),
        "LOG_LEVEL": "error",
        **settings,
    }
    ours = Ours(apply_settings(None))
    logging.disable(logging.ERROR)  # of the aligner that is not there
    return ours


def _score_peers(
    recordings: Sequence[Recording], paths: dict[str, Path], weights: Path
) -> dict[str, Score]:
    device = os.environ.get("DEVICE") or "auto"
    model = WhisperModel(
        str(weights),
        device=device,
        compute_type=os.environ.get("COMPUTE_TYPE") or "int8",
        cpu_threads=_threads(),
    )
    beam_size = int(os.environ.get("BEAM_SIZE") or 5)

    def heard_by(vad: bool) -> Transcribe:
        def transcribe(path: Path, language: str) -> str:
            segments, _ = model.transcribe(
                str(path), language=language, beam_size=beam_size, vad_filter=vad
            )
            return "".join(segment.text for segment in segments)

        return transcribe

    return {
        name: _score(recordings, paths, heard_by(vad))
        for name, vad in zip(PEERS, (False, True), strict=True)
    }


def _score(
    recordings: Sequence[Recording], paths: dict[str, Path], transcribe: Transcribe
) -> Score:
    score = Score()
    transcribe(paths[recordings[0].name], recordings[0].language)  # loads and warms up
    for recording in recordings:
        started = time.perf_counter()
        heard = transcribe(paths[recording.name], recording.language)
        if recording.kind in ("sentences", "languages", "real"):
            score.took_s += time.perf_counter() - started
            score.audio_s += recording.duration_s
        score.heard[recording.name] = heard.strip()
        score.errors[recording.name] = least_errors(recording.texts, heard, recording.language)
    return score


def _write_details(
    path: Path, recordings: Sequence[Recording], scores: dict[str, Score]
) -> None:
    rows = [
        {
            "name": r.name,
            "kind": r.kind,
            "truth": r.texts[0],
            **{
                side: {**asdict(score.errors[r.name]), "heard": score.heard[r.name]}
                for side, score in scores.items()
            },
        }
        for r in recordings
    ]
    path.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")


def describe(recordings: Sequence[Recording], scores: dict[str, Score]) -> str:
    """A table of all sides: lost, changed and added words of each kind, and the speed."""
    kinds = list(dict.fromkeys(r.kind for r in recordings))
    lines = ["", f"| what | {' | '.join(scores)} |", "|---|" + "---:|" * len(scores)]

    def row(name: str, cell: Callable[[Score], object]) -> None:
        lines.append(f"| {name} | {' | '.join(str(cell(score)) for score in scores.values())} |")

    for kind in kinds:
        total = sum(r.kind == kind for r in recordings)
        if kind == "nothing":
            row("words invented", lambda score, kind=kind: score.of(recordings, kind).added)
        if kind in ("nothing", "commands"):
            row(
                f"{kind}: right of {total}",
                lambda score, kind=kind: score.num_right(recordings, kind),
            )
        if kind != "nothing":
            num_words = next(iter(scores.values())).of(recordings, kind).num_words
            row(
                f"{kind}: lost/changed/added of {num_words} words",
                lambda score, kind=kind: _slashed(score.of(recordings, kind)),
            )
    row("speed (audio s per s)", lambda score: f"{score.audio_s / score.took_s:.1f}" if score.took_s else "–")
    return "\n".join([*lines, ""])


def _slashed(errors: Errors) -> str:
    return f"{errors.lost}/{errors.changed}/{errors.added} ({errors.rate:.1%})"


def _figures(recordings: Sequence[Recording], scores: dict[str, Score]) -> Iterator[Figure]:
    """Ours beside the better of faster-whisper's two modes."""
    peers = [scores[name] for name in PEERS]
    kinds = {r.kind for r in recordings}
    for path in PATHS:
        ours = scores[f"ours {path}"]

        def least(name: str, count: Callable[[Score], float], path: str = path, ours: Score = ours) -> Figure:
            best = min(count(peer) for peer in peers)
            runs = {side: [count(score)] for side, score in scores.items()}
            return Figure(f"{name}, {path}", count(ours), best, "", limit=best, runs=runs)

        def most(name: str, count: Callable[[Score], float], unit: str, path: str = path, ours: Score = ours) -> Figure:
            runs = {side: [count(score)] for side, score in scores.items()}
            best = max(count(peer) for peer in peers)
            return Figure(f"{name}, {path}", count(ours), best, unit, True, bar=1.0, runs=runs)

        for kind in ("sentences", "languages", "real"):
            if kind in kinds:
                yield least(f"words lost, {kind}", lambda s, k=kind: s.of(recordings, k).lost)
                yield least(f"words changed, {kind}", lambda s, k=kind: s.of(recordings, k).changed)
                yield least(f"words added, {kind}", lambda s, k=kind: s.of(recordings, k).added)
        if "commands" in kinds:
            yield most("short clips right", lambda s: s.num_right(recordings, "commands"), "")
        if "nothing" in kinds:
            yield least("words invented", lambda s: s.of(recordings, "nothing").added)
        if ours.took_s:
            yield most("speed", lambda s: s.audio_s / s.took_s, "×")
