"""Synthesizes speech with espeak-ng and flite, which are needed only to make new material.

`python -m benchmarks.material.synthesis` rewrites the shipped set.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.domain.transcript import SAMPLE_RATE, Samples
from benchmarks.audio import read_samples
from benchmarks.material.recording import Recording, write_pack

HERE = Path(__file__).parent
SHIPPED = HERE / "shipped"
SHIPPED_SEED = 0
PROGRAMS = ("espeak-ng", "flite")
FLITE_VOICES = ("slt", "rms", "awb", "kal16")
ESPEAK_VOICES = ("en-us", "en-us+f3", "en-us+m3", "en-gb", "en-gb+f2", "en-gb-x-rp", "en-gb+m5")
NOISE_DB = (-60, -45)  # RMS beside speech of about -20
PAUSES_S = ((0.2, 1.0, 0.5), (1.0, 3.0, 0.3), (3.0, 6.0, 0.2))  # from, to, how often
DENSE_WORDS_PER_MINUTE = 230  # of Greek, so that half a minute reaches the decoder's token limit


@dataclass(frozen=True, slots=True)
class Voice:
    """`rate`: words per minute, espeak-ng only."""

    program: str
    name: str
    rate: int = 165


def can_synthesize() -> bool:
    return all(shutil.which(program) for program in PROGRAMS)


def synthesize(seed: int) -> list[Recording]:
    """Sentences with pauses, short commands, and other languages.

    Even seeds use one half of the sentences, odd seeds the other.
    """
    rng = random.Random(seed)
    lines = (HERE / "sentences.txt").read_text().splitlines()[seed % 2 :: 2]
    return [*_conversations(lines, rng), *_commands(rng), *_languages(seed, rng)]


def _conversations(lines: list[str], rng: random.Random) -> Iterator[Recording]:
    rng.shuffle(lines)
    begin = 0
    while begin < len(lines):
        chosen = lines[begin : begin + rng.randint(3, 8)]
        begin += len(chosen)
        voices = [_random_voice(rng) for _ in range(rng.choice((1, 1, 2)))]
        spoken = [speak(line, rng.choice(voices)) for line in chosen]
        samples = _with_pauses(spoken, [_pause(rng) for _ in chosen], rng.uniform(0.1, 2.0))
        name = f"sentences-{begin:03}-{voices[0].name}"
        yield _recording(name, "sentences", "en", (" ".join(chosen),), samples, rng)


def _commands(rng: random.Random) -> Iterator[Recording]:
    for i, line in enumerate((HERE / "commands.txt").read_text().splitlines()):
        texts = tuple(text.strip() for text in line.split("|"))
        voice = _random_voice(rng)
        around = [rng.choice((0.0, rng.uniform(0, 1))) for _ in range(2)]
        samples = _with_pauses([speak(texts[0], voice)], [around[1]], around[0])
        name = f"command-{i:03}-{voice.name}"
        yield _recording(name, "commands", "en", texts, samples, rng)


def _languages(seed: int, rng: random.Random) -> Iterator[Recording]:
    """Each language with pauses, and Greek without, fast enough to fill the decoder's context."""
    for language, lines in json.loads((HERE / "languages.json").read_text()).items():
        rng.shuffle(lines)
        voice = Voice("espeak-ng", language + ("" if seed % 2 else "+m3"), rng.randint(140, 165))
        spoken = [speak(line, voice) for line in lines]
        samples = _with_pauses(spoken, [_pause(rng) for _ in lines], rng.uniform(0.1, 2.0))
        text = " ".join(lines)
        yield _recording(f"language-{language}", "languages", language, (text,), samples, rng)
        if language == "el":
            voice = Voice("espeak-ng", "el", DENSE_WORDS_PER_MINUTE)
            samples = _with_pauses([speak(line, voice) for line in lines], [0.0] * len(lines), 0.2)
            yield _recording("language-el-dense", "languages", "el", (text,), samples, rng)


def _random_voice(rng: random.Random) -> Voice:
    if rng.random() < 0.5:
        return Voice("flite", rng.choice(FLITE_VOICES))
    return Voice("espeak-ng", rng.choice(ESPEAK_VOICES), rng.randint(145, 180))


def _pause(rng: random.Random) -> float:
    shortest, longest, _ = rng.choices(PAUSES_S, [pause[2] for pause in PAUSES_S])[0]
    return rng.uniform(shortest, longest)


def speak(text: str, voice: Voice) -> Samples:
    """The spoken text, without the voice's own silence before and after it.

    Raises:
        subprocess.CalledProcessError: the program refuses the voice or the text.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        if voice.program == "flite":
            command = ["flite", "-voice", voice.name, "-t", text, "-o", str(path)]
        else:
            rate = str(voice.rate)
            command = ["espeak-ng", "-v", voice.name, "-s", rate, "-w", str(path), text]
        subprocess.run(command, check=True, capture_output=True)
        samples = read_samples(path)
    loud = np.flatnonzero(np.abs(samples) > 0.003)
    return samples[loud[0] : loud[-1] + 1]


def _with_pauses(spoken: Sequence[Samples], pauses_s: Sequence[float], lead_s: float) -> Samples:
    """All samples in a row, with a pause after each."""
    blocks = [np.zeros(round(lead_s * SAMPLE_RATE), np.float32)]
    for samples, pause_s in zip(spoken, pauses_s, strict=True):
        blocks += [samples, np.zeros(round(pause_s * SAMPLE_RATE), np.float32)]
    return np.concatenate(blocks)


def _recording(
    name: str,
    kind: str,
    language: str,
    texts: tuple[str, ...],
    samples: Samples,
    rng: random.Random,
) -> Recording:
    """A recording at a random level; one in three has noise."""
    samples = samples / np.abs(samples).max() * rng.uniform(0.1, 0.8)
    if rng.random() < 1 / 3:
        noise = np.random.default_rng(rng.getrandbits(32)).standard_normal(len(samples))
        samples = samples + noise * 10 ** (rng.uniform(*NOISE_DB) / 20)
    return Recording(name, kind, language, texts, samples.astype(np.float32))


def main() -> None:
    recordings = synthesize(SHIPPED_SEED)
    for kind in dict.fromkeys(recording.kind for recording in recordings):
        write_pack([r for r in recordings if r.kind == kind], SHIPPED, kind)


if __name__ == "__main__":
    main()
