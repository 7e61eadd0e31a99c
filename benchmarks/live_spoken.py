"""What the streams of the live benchmark say: recordings whose words have known ends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from math import nan
from pathlib import Path
from typing import Any

import numpy as np

from app.domain.transcript import SAMPLE_RATE, Samples
from benchmarks.audio import DATA, read_samples
from benchmarks.material.recording import read_pack
from benchmarks.material.synthesis import SHIPPED

CONVERSATIONS = ("en_two", "en_three", "en_long", "en_two_b")
REAL = DATA / "real"
PAUSE_S = 0.7  # between two recordings in a row
TAIL_S = 1.5  # of silence, so that the last utterance ends as the others do
MARGIN_S = 0.25  # before the first word of a piece


@dataclass(frozen=True, slots=True)
class TrueWord:
    """`end_s`: NaN if it is not known."""

    text: str
    end_s: float


@dataclass(frozen=True, slots=True)
class Spoken:
    """`samples`: float32 (num_samples,) at 16 kHz. `words`: in the order of their ends."""

    name: str
    samples: Samples
    words: tuple[TrueWord, ...]

    @property
    def duration_s(self) -> float:
        return len(self.samples) / SAMPLE_RATE

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)


def streams(material: list[Spoken], count: int) -> list[Spoken]:
    """One recording for each stream; they repeat if there are too few."""
    return list(islice(cycle(material), count))


def conversations(seconds: float) -> list[Spoken]:
    """Pieces of the test conversations, from sentence to sentence, about so long."""
    by_source = [list(_pieces(name, seconds)) for name in CONVERSATIONS]
    longest = max(map(len, by_source))
    return [pieces[i] for i in range(longest) for pieces in by_source if i < len(pieces)]


def _pieces(name: str, seconds: float) -> Iterator[Spoken]:
    samples = read_samples(DATA / f"{name}.flac")
    truth = json.loads((DATA / f"{name}.json").read_text())
    begin_s, end_s = 0.0, 0.0
    for sentence in truth["sentences"]:
        if sentence["end"] - begin_s > seconds and end_s > begin_s:
            yield _cut(f"{name}-{begin_s:.0f}", samples, truth["words"], begin_s, end_s)
            begin_s = sentence["start"] - MARGIN_S
        end_s = max(end_s, sentence["end"])


def _cut(
    name: str, samples: Samples, words: list[dict[str, Any]], begin_s: float, end_s: float
) -> Spoken:
    sound = samples[max(0, round(begin_s * SAMPLE_RATE)) : round(end_s * SAMPLE_RATE)]
    spoken = tuple(
        TrueWord(word["word"], word["end"] - max(0.0, begin_s))
        for word in sorted(words, key=lambda word: float(word["end"]))
        if begin_s <= word["start"] and word["end"] <= end_s + 0.01
    )
    return Spoken(name, np.concatenate([sound, _silence(TAIL_S)]), spoken)


def recordings(folder: Path, seconds: float) -> list[Spoken]:
    """Recordings of a folder in a row until they are about so long, beginning with each of them.

    Beside each FLAC or WAV file lies a JSON file with its words: `words` with `word` and `end`, or
    `w` with `t`, `b` and `d` (text, begin and duration, as pocketsphinx writes them). Those without
    words are left out.

    Raises:
        ValueError: there are none.
    """
    found = [_read(path) for path in sorted(folder.iterdir()) if path.suffix in (".flac", ".wav")]
    single = [spoken for spoken in found if spoken is not None]
    if not single:
        raise ValueError(f"no recordings with word times in {folder}")
    return [_in_a_row(single[i:] + single[:i], seconds) for i in range(len(single))]


def _read(path: Path) -> Spoken | None:
    truth_path = path.with_suffix(".json")
    if not truth_path.is_file():
        return None
    truth = json.loads(truth_path.read_text())
    words = [TrueWord(word["word"], word["end"]) for word in truth.get("words", ())]
    words += [
        TrueWord(word["t"].partition("(")[0], word["b"] + word["d"])
        for word in truth.get("w", ())
        if word["t"][:1] not in "<["  # silence and noise
    ]
    return Spoken(path.stem, read_samples(path), tuple(words)) if words else None


def _in_a_row(single: list[Spoken], seconds: float) -> Spoken:
    sound: list[Samples] = []
    words: list[TrueWord] = []
    at_s = 0.0
    for spoken in single:
        if sound and at_s + spoken.duration_s > seconds:
            continue
        sound += [spoken.samples, _silence(PAUSE_S)]
        words += [TrueWord(word.text, at_s + word.end_s) for word in spoken.words]
        at_s += spoken.duration_s + PAUSE_S
    return Spoken(single[0].name, np.concatenate([*sound, _silence(TAIL_S)]), tuple(words))


def sentences() -> list[Spoken]:
    """Those of `words`, by synthetic voices: many words, whose times are not known."""
    return [
        Spoken(
            recording.name,
            np.concatenate([recording.samples, _silence(TAIL_S)]),
            tuple(TrueWord(word, nan) for word in recording.texts[0].split()),
        )
        for recording in read_pack(SHIPPED, "sentences")
    ]


def _silence(seconds: float) -> Samples:
    return np.zeros(round(seconds * SAMPLE_RATE), np.float32)
