"""Synthesise the test recordings in tests/data and the demo conversation in app/demo.

Every recording is a conversation of artificial voices in the vocabulary of the demo models, with
its truth beside it: NAME.flac (16 kHz, 16 bit, mono) and NAME.json. The seeds are chosen such that
the bare libraries with the demo models get the recording right: every word, every translation, the
number of speakers, and who says what. Another seed gives another conversation, which they may well
get wrong, so look at their answer before trusting a new one.

    python tests/support/make_data.py                   # all of them
    python tests/support/make_data.py en_two es_mono    # these two
    python tests/support/make_data.py --out FOLDER      # somewhere else

Needs NumPy, SciPy, PyAV and Debian's espeak-ng and flite libraries. The voices come from those
libraries, so other versions of them may speak slightly differently.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

TESTS = Path(__file__).resolve().parent.parent
DEMO = TESTS.parent / "app" / "demo"
sys.path.insert(0, str(DEMO / "scripts"))

import conversation  # noqa: E402  (app/demo/scripts)
import grammar  # noqa: E402

SAMPLE_RATE: int = conversation.SAMPLE_RATE
Samples = npt.NDArray[np.int16]


@dataclass(frozen=True)
class Recording:
    """What to synthesise. The seed decides the sentences, the voices and the pauses."""

    language: str
    speakers: int
    sentences: int
    seed: int
    folder: Path = TESTS / "data"
    voices_of: str = ""  # the recording whose voices speak here too; by default the seed's own


RECORDINGS = {
    "conversation": Recording("en", speakers=2, sentences=13, seed=19, folder=DEMO),
    "en_two": Recording("en", speakers=2, sentences=28, seed=100),
    "en_two_b": Recording("en", speakers=2, sentences=14, seed=200),
    "en_three": Recording("en", speakers=3, sentences=28, seed=309),
    "es_two": Recording("es", speakers=2, sentences=26, seed=401),
    "es_two_b": Recording("es", speakers=2, sentences=14, seed=501),
    "en_short": Recording("en", speakers=1, sentences=2, seed=603),
    "es_short": Recording("es", speakers=1, sentences=2, seed=701),
    "en_mono": Recording("en", speakers=1, sentences=9, seed=800),
    "es_mono": Recording("es", speakers=1, sentences=8, seed=905),
    "en_long": Recording("en", speakers=3, sentences=88, seed=1002, voices_of="en_three"),
}


def script(recording: Recording) -> tuple[list[tuple[str, str]], list[conversation.Voice]]:
    """The sentences, each in English and Spanish, and the voices."""
    rng = random.Random(recording.seed)
    pairs = [grammar.sentence(rng) for _ in range(recording.sentences)]
    if recording.voices_of:
        return pairs, script(RECORDINGS[recording.voices_of])[1]
    return pairs, conversation.cast(rng, recording.speakers, language=recording.language)


def synthesise(recording: Recording) -> tuple[Samples, dict[str, Any]]:
    """The samples of a recording, and the truth about it.

    espeak-ng lets what it said before colour what it says next: for the same samples every time,
    call this in a process that has synthesised nothing yet.
    """
    pairs, voices = script(recording)
    spanish = recording.language == "es"
    made = conversation.converse(
        sentences=[pair[spanish] for pair in pairs],
        voices=voices,
        seed=recording.seed,
        language=recording.language,
    )
    samples = (np.clip(made.audio, -1, 1) * 32767).round().astype(np.int16)

    def span(item: Any) -> dict[str, Any]:
        return {"start": round(item.start, 3), "end": round(item.end, 3), "speaker": item.speaker}

    sentences = [{"text": said.text, **span(said)} for said in made.sentences]
    if spanish:
        for sentence, (english, _) in zip(sentences, pairs, strict=True):
            sentence["translation"] = english
    truth = {
        "language": recording.language,
        "duration": round(len(samples) / SAMPLE_RATE, 3),
        "speakers": sorted({turn.speaker for turn in made.turns}),
        "sentences": sentences,
        "turns": [span(turn) for turn in made.turns],
        "words": [{"word": word.word, **span(word)} for word in made.words],
    }
    return samples, truth


def write_flac(path: Path, samples: Samples) -> None:
    """Losslessly, and the same bytes every time."""
    with av.open(str(path), "w", format="flac", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("flac", rate=SAMPLE_RATE)
        stream.layout = "mono"
        stream.format = "s16"
        stream.codec_context.options = {"compression_level": "12", "flags": "+bitexact"}
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def read_flac(path: Path) -> Samples:
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
    samples: Samples = np.concatenate(frames, axis=1)[0].astype(np.int16)
    return samples


def write_truth(path: Path, truth: dict[str, Any]) -> None:
    """JSON with one sentence, turn or word to a line."""
    fields = []
    for key, value in truth.items():
        text = json.dumps(value, ensure_ascii=False)
        if value and isinstance(value, list) and isinstance(value[0], dict):
            rows = ",\n".join(f"    {json.dumps(row, ensure_ascii=False)}" for row in value)
            text = f"[\n{rows}\n  ]"
        fields.append(f'  "{key}": {text}')
    path.write_text("{\n" + ",\n".join(fields) + "\n}\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="; ".join(RECORDINGS))
    parser.add_argument("--out", type=Path, help="write everything into this folder")
    options = parser.parse_args()
    if unknown := set(options.names) - set(RECORDINGS):
        parser.error(f"no such recording: {', '.join(sorted(unknown))}")
    spawn = get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=spawn, max_tasks_per_child=1) as fresh:
        for name in options.names or RECORDINGS:
            recording = RECORDINGS[name]
            samples, truth = fresh.submit(synthesise, recording).result()
            folder = options.out or recording.folder
            folder.mkdir(parents=True, exist_ok=True)
            write_flac(folder / f"{name}.flac", samples)
            write_truth(folder / f"{name}.json", truth)
            if not np.array_equal(read_flac(folder / f"{name}.flac"), samples):
                raise RuntimeError(f"{name}.flac does not decode to the samples that went in")
            print(f"{name:14} {truth['duration']:7.2f} s  {len(truth['words']):4} words")


if __name__ == "__main__":
    main()
