"""Recordings of the words benchmark, and packs that store many of them in two small files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

from app.domain.transcript import SAMPLE_RATE, Samples
from benchmarks.audio import read_samples

BIT_RATE = 24_000  # Opus: speech at 16 kHz is transparent to Whisper from about 20 kbit/s
GAP_S = 0.5  # between two recordings in a pack, so that the codec starts each from silence


@dataclass(frozen=True, slots=True)
class Recording:
    """`texts`: the spoken words in every spelling that counts as right; "" if nobody speaks.

    `kind`: sentences, commands, languages, real or nothing. `samples`: float32 (num_samples,).
    """

    name: str
    kind: str
    language: str
    texts: tuple[str, ...]
    samples: Samples

    @property
    def duration_s(self) -> float:
        return len(self.samples) / SAMPLE_RATE


def write_pack(recordings: Sequence[Recording], folder: Path, name: str) -> None:
    """Write NAME.ogg with all recordings in a row, and NAME.json with the position of each."""
    rows: list[dict[str, Any]] = []
    blocks: list[Samples] = []
    position = 0
    gap = np.zeros(round(GAP_S * SAMPLE_RATE), np.float32)
    for recording in recordings:
        rows.append(
            {
                "name": recording.name,
                "kind": recording.kind,
                "language": recording.language,
                "texts": recording.texts,
                "start": position,
                "end": position + len(recording.samples),
            }
        )
        blocks += [recording.samples, gap]
        position += len(recording.samples) + len(gap)
    folder.mkdir(parents=True, exist_ok=True)
    _write_opus(folder / f"{name}.ogg", np.concatenate(blocks))
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (folder / f"{name}.json").write_text(f"[\n{lines}\n]\n")


def read_pack(folder: Path, name: str) -> list[Recording]:
    samples = read_samples(folder / f"{name}.ogg")
    return [
        Recording(
            row["name"],
            row["kind"],
            row["language"],
            tuple(row["texts"]),
            samples[row["start"] : row["end"]],
        )
        for row in json.loads((folder / f"{name}.json").read_text())
    ]


def _write_opus(path: Path, samples: Samples) -> None:
    with av.open(str(path), "w", format="ogg") as output:
        stream = output.add_stream("libopus", rate=SAMPLE_RATE, layout="mono")
        stream.bit_rate = BIT_RATE
        pcm = (np.clip(samples, -1, 1) * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE, 0
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
