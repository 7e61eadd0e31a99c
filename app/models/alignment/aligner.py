"""Forced alignment with wav2vec2: Segments -> sentences with timed words.

Models, alphabets and trellis are those of whisperx; here the trellis and its path are computed for
a whole batch of segments at once. Source: whisperx/alignment.py, version 3.8, after
https://pytorch.org/audio/stable/tutorials/forced_alignment_tutorial.html
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from whisperx.alignment import (
    DEFAULT_ALIGN_MODELS_HF,
    DEFAULT_ALIGN_MODELS_TORCH,
    load_align_model,
)

from app.domain.languages import LANGUAGES_WITHOUT_SPACES
from app.domain.transcript import SAMPLE_RATE, Segment, Word
from app.models.alignment.wav2vec import Emission, Wav2Vec2
from app.models.devices import free_memory
from app.models.protocols import AlignmentItem
from app.text.segments import cut_sentences
from app.text.sentences import SentenceSplitter

WILDCARD = -1


def align_languages() -> frozenset[str]:
    """The languages that whisperx has an alignment model for."""
    return frozenset({**DEFAULT_ALIGN_MODELS_TORCH, **DEFAULT_ALIGN_MODELS_HF})


@dataclass(frozen=True, slots=True)
class Spelling:
    """A text as labels of the model: `labels[i]` is the character `text[positions[i]]`."""

    labels: tuple[int, ...]
    positions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CharTime:
    """In frames; `score` is the mean probability of its frames."""

    start: int
    end: int
    score: float


class Wav2Vec2Aligner:
    """Implements `Aligner` for one language."""

    def __init__(
        self, language: str, source: str, device: str, batch_size: int, cache_dir: Path
    ) -> None:
        """`source`: a folder, or one of torchaudio's models in the cache; empty for whisperx's
        model of the language. Fetches nothing: see `ModelFetcher`.
        """
        model, metadata = load_align_model(
            language,
            device,
            model_name=source or None,
            model_dir=str(cache_dir),
            model_cache_only=True,
        )
        self._model = Wav2Vec2(model, metadata["type"] == "huggingface", device)
        self._dictionary: dict[str, int] = metadata["dictionary"]
        self._blank = next(
            (self._dictionary[pad] for pad in ("<pad>", "[pad]") if pad in self._dictionary), 0
        )
        self._spaces = language not in LANGUAGES_WITHOUT_SPACES
        self._splitter = SentenceSplitter(language)
        self.num_workers = 1
        self.batch_size = batch_size
        self.memory_bytes = self._model.memory_bytes

    def close(self) -> None:
        del self._model
        free_memory()

    def batch_key(self, item: AlignmentItem) -> str:
        return "segments"

    def audio_s(self, item: AlignmentItem) -> float:
        return len(item.samples) / SAMPLE_RATE

    def run(self, items: Sequence[AlignmentItem]) -> list[tuple[Segment, ...] | None]:
        spellings = [
            spell(item.segment.text, self._dictionary, with_spaces=self._spaces) for item in items
        ]
        emissions = self._model.emissions([item.samples for item in items])
        paths = align_labels(emissions, [s.labels for s in spellings], self._blank)
        return [
            None if path is None else self._sentences(item.segment, spelling, path, len(emission))
            for item, spelling, path, emission in zip(
                items, spellings, paths, emissions, strict=True
            )
        ]

    def _sentences(
        self, segment: Segment, spelling: Spelling, path: Sequence[CharTime], num_frames: int
    ) -> tuple[Segment, ...]:
        frame_s = (segment.end_s - segment.start_s) / num_frames
        char_times = dict(zip(spelling.positions, path, strict=True))
        text = segment.text
        placed = [
            (span[0], _timed_word(text, span, char_times, segment.start_s, frame_s))
            for span in word_spans(text, 0, len(text), with_spaces=self._spaces)
        ]
        return tuple(cut_sentences(segment, self._splitter.spans(text), placed))


def spell(text: str, dictionary: dict[str, int], with_spaces: bool) -> Spelling:
    """Label every character. A wildcard replaces those that the model's alphabet lacks: digits,
    symbols, punctuation, other scripts. Inner white space becomes "|" if the alphabet has it.
    """
    labels, positions = [], []
    first, last = len(text) - len(text.lstrip()), len(text.rstrip())
    for position in range(first, last):
        char = text[position].lower()
        if char.isspace():
            char = "|" if with_spaces else " "
        label = dictionary.get(char)
        if label is None:
            if char in " |":
                continue
            label = WILDCARD
        labels.append(label)
        positions.append(position)
    return Spelling(tuple(labels), tuple(positions))


def align_labels(
    emissions: Sequence[Emission], labels: Sequence[Sequence[int]], blank: int
) -> list[list[CharTime] | None]:
    """The best path of each item's labels through its emission; None if there is none.

    In every frame a path stays on its label (emitting a blank) or goes on to the next label
    (emitting it). It may end before the last frame.
    """
    fits = [i for i, e in enumerate(emissions) if 0 < len(labels[i]) <= len(e)]
    outcomes: list[list[CharTime] | None] = [None] * len(emissions)
    if not fits:
        return outcomes
    num_frames = max(len(emissions[i]) for i in fits)
    num_labels = max(len(labels[i]) for i in fits)
    # padding never wins: past the item's frames and labels, every step is impossible
    go = np.full((num_frames, len(fits), num_labels), -np.inf, np.float32)
    stay = np.full((num_frames, len(fits), 1), -np.inf, np.float32)
    for row, i in enumerate(fits):
        scored = _label_scores(emissions[i], labels[i], blank)
        go[: scored.shape[0], row, : scored.shape[1]] = scored
        stay[: len(emissions[i]), row, 0] = emissions[i][:, blank]
    went, final = _trellis(go, stay, [len(labels[i]) for i in fits])
    for row, i in enumerate(fits):
        end = int(np.argmax(final[:, row]))
        if np.isneginf(final[end, row]):
            continue
        starts = _backtrack(went[:end, row], len(labels[i]))
        outcomes[i] = _char_times(starts, end, go[:, row], stay[:, row, 0])
    return outcomes


def _label_scores(emission: Emission, labels: Sequence[int], blank: int) -> Emission:
    """(num_frames, len(labels)); a wildcard scores like the best label except the blank."""
    others = emission.copy()
    others[:, blank] = -np.inf
    extended = np.concatenate([emission, others.max(axis=1, keepdims=True)], axis=1)
    scores: Emission = extended[:, [emission.shape[1] if i == WILDCARD else i for i in labels]]
    return scores


def _trellis(
    go: Emission, stay: Emission, num_labels: Sequence[int]
) -> tuple[npt.NDArray[np.bool_], Emission]:
    """Two arrays: whether the best path goes on to the label, (num_frames, batch, labels); the
    score of all labels being done before frame t, (num_frames + 1, batch)."""
    num_frames, batch, width = go.shape
    went = np.empty((num_frames, batch, width), np.bool_)
    final = np.full((num_frames + 1, batch), -np.inf, np.float32)
    score = np.full((batch, width + 1), -np.inf, np.float32)
    score[:, 0] = 0.0
    rows, last = np.arange(batch), np.asarray(num_labels)
    for t in range(num_frames):
        stayed = score + stay[t]
        gone = score[:, :-1] + go[t]
        np.greater(gone, stayed[:, 1:], out=went[t])
        np.maximum(stayed[:, 1:], gone, out=stayed[:, 1:])
        score = stayed
        final[t + 1] = score[rows, last]
    return went, final


def _backtrack(went: npt.NDArray[np.bool_], num_labels: int) -> list[int]:
    """The frame in which each label is emitted."""
    starts = [0] * num_labels
    label, t = num_labels, len(went)
    while label > 0:
        t -= 1
        if went[t, label - 1]:
            label -= 1
            starts[label] = t
    return starts


def _char_times(
    starts: Sequence[int], end: int, go: Emission, stay: npt.NDArray[np.float32]
) -> list[CharTime]:
    blanks = np.concatenate([[0.0], np.cumsum(np.exp(stay[:end], dtype=np.float64))])
    times = []
    for label, (start, stop) in enumerate(zip(starts, [*starts[1:], end], strict=True)):
        emitted = float(np.exp(go[start, label]))
        held = float(blanks[stop] - blanks[start + 1]) if stop > start + 1 else 0.0
        times.append(CharTime(start, stop, (emitted + held) / max(1, stop - start)))
    return times


def word_spans(text: str, begin: int, end: int, with_spaces: bool) -> Iterable[tuple[int, int]]:
    """The words between two characters: separated by white space, or single letters if the
    script has none (a letter keeps its combining marks)."""
    start = None
    for i in range(begin, end + 1):
        inside = i < end and not text[i].isspace()
        begins = inside and (
            start is None or not (with_spaces or unicodedata.category(text[i]).startswith("M"))
        )
        if start is not None and (begins or not inside):
            yield start, i
            start = None
        if begins:
            start = i


def _timed_word(
    text: str,
    span: tuple[int, int],
    char_times: dict[int, CharTime],
    start_s: float,
    frame_s: float,
) -> Word:
    times = [char_times[i] for i in range(*span) if i in char_times]
    if not times:
        return Word(text[slice(*span)])
    return Word(
        text[slice(*span)],
        start_s + times[0].start * frame_s,
        start_s + times[-1].end * frame_s,
        sum(t.score for t in times) / len(times),
    )
