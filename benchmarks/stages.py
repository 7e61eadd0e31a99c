"""Each stage in one process, both sides on the same samples; then a whole file end to end."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from app.config.settings import Settings
from app.domain.transcript import SAMPLE_RATE, Audio, Diarization, Segment
from app.models.devices import free_memory
from benchmarks.audio import tile
from benchmarks.ours import Ours
from benchmarks.reference import Reference
from benchmarks.results import Figure, compare, in_turn, show, timed
from benchmarks.servers import running
from benchmarks.setup import OUT, Plan

CODECS = ("flac", "aac")
WARM_UP_S = 20
SAME_START_S = 0.02  # one frame of alignment
TURN_ROUNDING_S = 0.001
MAX_OVERHEAD = 5.0  # percent


class Stages:
    """Both sides loaded and warm."""

    def __init__(self, settings: Settings, plan: Plan) -> None:
        self.ours = Ours(settings)
        self.reference = Reference(settings)
        self._plan = plan
        self._bars: dict[str, float] = {}

    def close(self) -> None:
        """Free the memory of both sides' models."""
        self.ours.close()
        del self.ours, self.reference
        free_memory()

    def run(self, only: Sequence[str], bars: dict[str, float]) -> Iterator[Figure]:
        self._bars = bars
        self._warm_up()
        stages = {
            "decode": self._decode,
            "recognition": self._recognition_and_alignment,
            "diarization": self._diarization,
            "end-to-end": self._end_to_end,
        }
        for name, stage in stages.items():
            if not only or name in only:
                yield from stage()

    def _warm_up(self) -> None:
        audio = self.ours.decode(tile(self._plan.minutes, OUT / "audio"))
        audio = Audio(audio.samples[: WARM_UP_S * SAMPLE_RATE])
        samples = audio.samples.copy()
        segments = self.ours.recognize(audio, self.ours.detect_speech(audio))
        self.ours.align(segments, audio)
        self.ours.diarize(audio)
        self.reference.align(self.reference.recognize(samples), samples)
        self.reference.diarize(samples)

    def _decode(self) -> Iterator[Figure]:
        """Figures for decoding. Our separate process is for safety, not speed."""
        for codec in CODECS:
            path = tile(self._plan.minutes, OUT / "audio", codec)
            yield compare(
                f"decode {self._plan.minutes:g} min of {codec}",
                partial(self.ours.decode, path),
                partial(self.reference.decode, path),
                self._plan.repeats,
            )[0]

    def _recognition_and_alignment(self) -> Iterator[Figure]:
        ours, reference, plan = self.ours, self.reference, self._plan
        audio = ours.decode(tile(plan.minutes, OUT / "audio"))
        samples = audio.samples.copy()  # pyannote's own loop needs a writable array
        took_s, chunks = timed(lambda: ours.detect_speech(audio))
        figure, segments, theirs = compare(
            f"recognition {plan.minutes:g} min",
            lambda: ours.recognize(audio, ours.detect_speech(audio)),
            lambda: reference.recognize(samples),
            plan.repeats,
            self._bars.get("recognition", 0),
        )
        yield replace(
            figure,
            note=f"speech detection included ({took_s:.2f} s of ours); {len(chunks)} chunks and "
            f"{len(theirs)}; {_characters(segments)} characters and "
            f"{sum(len(s['text']) for s in theirs)}; {ours.num_fallbacks} fallbacks",
        )
        segments = [_on_grid(segment) for segment in segments]
        given = [{"start": s.start_s, "end": s.end_s, "text": s.text} for s in segments]
        figure, mine, theirs = compare(
            f"alignment {plan.minutes:g} min",
            lambda: ours.align(segments, audio),
            lambda: reference.align(given, samples),
            plan.repeats,
            self._bars.get("alignment", 0),
        )
        yield replace(figure, note=check_alignment(mine, theirs))

    def _diarization(self) -> Iterator[Figure]:
        for minutes in self._plan.diarization_minutes:
            audio = self.ours.decode(tile(minutes, OUT / "audio"))
            samples = audio.samples.copy()
            figure, mine, theirs = compare(
                f"diarization {minutes:g} min",
                partial(self.ours.diarize, audio),
                partial(self.reference.diarize, samples),
                self._plan.repeats if minutes <= self._plan.minutes else 1,
                self._bars.get("diarization", 0),
            )
            yield replace(figure, note=check_turns(mine, theirs))

    def _end_to_end(self) -> Iterator[Figure]:
        minutes = self._plan.long_minutes
        path = tile(minutes, OUT / "audio")
        figure, _, _ = compare(
            f"end to end {minutes:g} min",
            lambda: self.ours.transcribe(path, diarize=True),
            lambda: self.reference.transcribe(path, diarize=True),
            self._plan.repeats if minutes <= self._plan.minutes else 1,
            self._bars.get("end to end", 0),
        )
        yield replace(figure, note="decode, recognition, alignment, diarization")


def _on_grid(segment: Segment) -> Segment:
    """The segment at sixteenths of a second, which are samples, so both sides cut the same audio.

    whisperx rounds times down to a sample and we round to the nearest. Random weights, unlike
    trained ones, react to the difference.
    """
    return replace(
        segment, start_s=round(segment.start_s * 16) / 16, end_s=round(segment.end_s * 16) / 16
    )


def _characters(segments: Sequence[Segment]) -> int:
    return sum(len(segment.text) for segment in segments)


def check_alignment(ours: Sequence[Segment], reference: dict[str, Any]) -> str:
    """How many words start within one frame of whisperx's time."""
    mine = [(w.text, w.start_s) for s in ours for w in s.words or ()]
    theirs = [(w["word"], w.get("start")) for w in reference["word_segments"]]
    if [text for text, _ in mine] != [text for text, _ in theirs]:
        return f"DIFFERENT WORDS: {len(mine)} and {len(theirs)}"
    same = sum(
        a is not None and b is not None and abs(a - b) <= SAME_START_S + TURN_ROUNDING_S
        for (_, a), (_, b) in zip(mine, theirs, strict=True)
    )
    return f"{same} of {len(mine)} words start within 20 ms of each other"


def check_turns(ours: Diarization, reference: Any) -> str:
    """Whether the turns are the same, regardless of the speakers' names."""
    mine = sorted((t.start_s, t.end_s, t.speaker) for t in ours.turns)
    theirs = sorted(zip(reference["start"], reference["end"], reference["speaker"], strict=True))
    names = {(a[2], b[2]) for a, b in zip(mine, theirs, strict=False)}
    same = (
        len(mine) == len(theirs)
        and all(
            abs(a[0] - b[0]) <= TURN_ROUNDING_S and abs(a[1] - b[1]) <= TURN_ROUNDING_S
            for a, b in zip(mine, theirs, strict=True)
        )
        and len(names) == len({a for a, _ in names}) == len({b for _, b in names})
    )
    speakers = len({turn[2] for turn in mine})
    verdict = "identical" if same else f"DIFFERENT ({len(theirs)} in the reference)"
    return f"{len(mine)} turns of {speakers} speakers, {verdict}"


def run_overhead(settings: Settings, plan: Plan) -> Iterator[Figure]:
    """The time that HTTP, the upload and the answer add to the same request in process."""
    path = tile(plan.minutes, OUT / "audio")
    ours = Ours(settings)
    try:
        with running("ours") as server:
            ours.transcribe(path, diarize=True)
            server.post(path, diarize=True)
            calls = {
                "http": lambda: server.post(path, diarize=True),
                "in process": lambda: ours.transcribe(path, diarize=True),
            }
            runs, _ = in_turn(calls, max(3, plan.repeats))
    finally:
        ours.close()
    http_s, bare_s = (statistics.median(taken) for taken in runs.values())
    figure = Figure(
        f"server's overhead, {plan.minutes:g} min",
        100 * (http_s / bare_s - 1),
        None,
        unit="%",
        limit=MAX_OVERHEAD,
        note=f"{http_s:.2f} s over HTTP, {bare_s:.2f} s in process",
        runs=dict(runs),
    )
    show(figure)
    yield figure
