"""Counts correct words: ours, with and without an aligner, and plain faster-whisper with the same
weights, with and without its speech detection. Needs no internet. Only material of another seed
needs a synthesizer.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from faster_whisper import WhisperModel

from app.config.settings import DEMO_DIR
from benchmarks.audio import DATA, read_samples, write_audio
from benchmarks.material.nothing import quiet_recordings
from benchmarks.material.recording import Recording, read_pack
from benchmarks.material.synthesis import (
    PROGRAMS,
    SHIPPED,
    SHIPPED_SEED,
    can_synthesize,
    synthesize,
)
from benchmarks.ours import Ours
from benchmarks.results import Figure, show
from benchmarks.scoring import least_errors
from benchmarks.setup import OUT, apply_settings
from benchmarks.word_figures import TEXTS, Score, describe, measures

REAL = DATA / "real"
SPOKEN = ("sentences", "commands", "languages")
PEERS = ("faster-whisper", "faster-whisper with VAD")
# ours: the settings of each path
PATHS = {
    # the demo's aligner knows the English letters: its times are poor, but it keeps the words
    "with an aligner": {"ALIGN_MODELS": json.dumps({"en": str(DEMO_DIR / "align")})},
    "without an aligner": {"ALIGN_MODELS": "", "WORD_ALIGNER": "whisper"},
}
SIDES = ("aligned", "unaligned", "peers")  # the first two in the order of PATHS

Transcribe = Callable[[Path, str], str]


def run_words(
    model: str, seed: int, kinds: Sequence[str] = (), sides: Sequence[str] = SIDES
) -> Iterator[Figure]:
    """Figures. `model`: tiny.en, base, or a folder. `seed`: 0 is the shipped material."""
    folder = OUT / "words" / f"seed-{seed}"
    recordings = [r for r in material(seed) if not kinds or r.kind in kinds]
    if model.endswith(".en"):
        recordings = [r for r in recordings if r.language == "en"]
    paths = write_material(recordings, folder)
    weights = weights_of(model)
    scores: dict[str, Score] = {}
    for side, (name, settings) in zip(SIDES, PATHS.items(), strict=False):
        if side in sides:
            logging.disable(logging.ERROR)  # about the missing aligner
            ours = ours_of(weights, settings)
            scores[f"ours {name}"] = _score(recordings, paths, ours.text)
            ours.close()
            logging.disable(logging.NOTSET)
    if "peers" in sides:
        scores |= _score_peers(recordings, paths, weights)
    _write_details(folder / f"heard-{Path(model).name}-{'-'.join(sides)}.json", recordings, scores)
    print(describe(recordings, scores), flush=True)
    if set(sides) == set(SIDES):
        for path in PATHS:
            for measure in measures(recordings):
                figure = measure.figure(f"ours {path}", scores, PEERS)
                show(figure)
                yield figure


def material(seed: int) -> list[Recording]:
    """All recordings, including the real ones.

    Raises:
        RuntimeError: the seed is not the shipped one, and there is no synthesizer.
    """
    if seed == SHIPPED_SEED:
        spoken = [r for kind in SPOKEN for r in read_pack(SHIPPED, kind)]
    elif can_synthesize():
        spoken = synthesize(seed)
    else:
        raise RuntimeError(f"material of seed {seed} needs {' and '.join(PROGRAMS)}")
    return [*spoken, *_real_recordings(), *quiet_recordings(seed)]


def _real_recordings() -> Iterator[Recording]:
    for path in sorted(REAL.glob("*.flac")):
        truth = json.loads(path.with_suffix(".json").read_text())
        yield Recording(path.stem, "real", "en", (truth["text"],), read_samples(path))


def write_material(recordings: Sequence[Recording], folder: Path) -> dict[str, Path]:
    """The WAV files that both sides read, by recording name. truth.json lists them."""
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


def weights_of(model: str) -> Path:
    if Path(model).is_dir():
        return Path(model).resolve()
    from tests.support.real_models import whisper_folder

    return whisper_folder(model, OUT / "models")


def _threads() -> int:
    return int(os.environ.get("CPU_THREADS") or 0) or len(os.sched_getaffinity(0))


def ours_of(weights: Path, settings: dict[str, str]) -> Ours:
    os.environ |= {
        "ASR_MODEL": str(weights),
        "ALLOWED_MODELS": str(weights),
        "HF_HUB_OFFLINE": "1",
        "CACHE_DIR": str(OUT / "cache"),
        "TEMP_DIR": str(OUT / f"tmp-words-{os.getpid()}"),
        "DATA_DIR": str(OUT / f"data-words-{os.getpid()}"),
        "COMPUTE_TYPE": os.environ.get("COMPUTE_TYPE") or "int8",
        "CPU_THREADS": str(_threads()),
        "LOG_LEVEL": "error",
        **settings,
    }
    return Ours(apply_settings(None))


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
        if recording.kind in TEXTS:
            score.took_s += time.perf_counter() - started
            score.audio_s += recording.duration_s
        score.heard[recording.name] = heard.strip()
        score.errors[recording.name] = least_errors(recording.texts, heard, recording.language)
    return score


def _write_details(path: Path, recordings: Sequence[Recording], scores: dict[str, Score]) -> None:
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
