"""Counts the words of a stream's utterances: all heard alone, and beside it those in doubt heard
again after the sound before them. On real Whisper; the recordings are those of `words`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import numpy as np

from app.domain.transcript import SAMPLE_RATE, Samples
from app.live.context import LeftContext
from app.live.endpointing import Started
from app.live.options import LiveOptions
from app.live.sound import Sound
from app.models.silero import StreamingVad
from benchmarks.material.recording import Recording
from benchmarks.ours import Ours
from benchmarks.results import Figure, show
from benchmarks.scoring import Errors, add_up, least_errors
from benchmarks.words import PATHS, material, ours_of, weights_of

PACKET_S = 0.1
SILENCE_S = 1.0  # after the last word

Utterance = tuple[float, Samples]  # its start in the stream


def run_utterances(model: str, seed: int) -> Iterator[Figure]:
    """Figures. `model` and `seed`: as for `words`."""
    recordings = [r for r in material(seed) if r.kind == "sentences" and r.language == "en"]
    vad = StreamingVad()
    spoken = [(recording, utterances_of(recording, vad)) for recording in recordings]
    logging.disable(logging.ERROR)  # about the missing aligner
    ours = ours_of(weights_of(model), PATHS["without an aligner"])
    after_context = [_errors(r, _heard(ours, of, with_context=True)) for r, of in spoken]
    alone = [_errors(r, _heard(ours, of, with_context=False)) for r, of in spoken]
    ours.close()
    logging.disable(logging.NOTSET)
    better, worse = add_up(after_context), add_up(alone)
    count = f"{sum(len(of) for _, of in spoken)} utterances, {better.num_words} words"
    for name, value, reference, limit in (
        ("words wrong", 100 * better.rate, 100 * worse.rate, None),
        ("words lost", 100 * _lost(better), 100 * _lost(worse), 100 * _lost(worse)),
    ):
        figure = Figure(
            f"utterances, {model}: {name}", value, reference, "%", limit=limit,
            note=f"of {count}; the reference: each heard alone",
        )  # fmt: skip
        show(figure)
        yield figure


def utterances_of(recording: Recording, vad: StreamingVad) -> list[Utterance]:
    """As a live session finds them."""
    silence = np.zeros(round(SILENCE_S * SAMPLE_RATE), np.float32)
    samples = np.concatenate([recording.samples, silence]).astype("<f4")
    sound, found, start_s = Sound(LiveOptions("m"), vad.track, 0.0), [], 0.0
    step = round(PACKET_S * SAMPLE_RATE)
    packets = [samples[at : at + step].tobytes() for at in range(0, len(samples), step)]
    for mark in [*(mark for packet in packets for mark in sound.hear(packet)), *sound.finish()]:
        if isinstance(mark, Started):
            start_s = mark.at_s
        else:
            found.append((start_s, sound.tape.between(start_s, mark.at_s).copy()))
    return found


def _heard(ours: Ours, utterances: Sequence[Utterance], with_context: bool) -> str:
    context, texts = LeftContext(), []
    for start_s, samples in utterances:
        before = context.before(start_s) if with_context else ()
        context.note(start_s, samples)
        texts.append(ours.text_of_utterance(samples, before))
    return " ".join(texts)


def _errors(recording: Recording, heard: str) -> Errors:
    return least_errors(recording.texts, heard, recording.language)


def _lost(errors: Errors) -> float:
    return errors.lost / max(errors.num_words, 1)
