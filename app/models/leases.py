"""What a lease of the store gives, typed by the kind of model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar, cast

from app.domain.transcript import Hypothesis
from app.engine.batching import Batcher
from app.engine.loading import Wait
from app.engine.model import ModelKey
from app.engine.store import ModelStore
from app.models.protocols import (
    Aligned,
    Aligner,
    AlignmentItem,
    DetectionItem,
    Diarizer,
    LanguageGuesses,
    RecognitionItem,
    Recognizer,
    VoiceActivityDetector,
    WindowBlock,
    WindowScores,
    WindowSpeakers,
)

Model = TypeVar("Model")
Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


@dataclass(frozen=True, slots=True)
class Leased(Generic[Model, Item, Outcome]):
    """A loaded model. `model`: for methods that any thread may call; `batcher`: for work."""

    model: Model
    batcher: Batcher[Item, Outcome]


LeasedDetector: TypeAlias = Leased[VoiceActivityDetector, WindowBlock, WindowScores]
LeasedAligner: TypeAlias = Leased[Aligner, AlignmentItem, Aligned]
LeasedDiarizer: TypeAlias = Leased[Diarizer, WindowBlock, WindowSpeakers]


@dataclass(frozen=True, slots=True)
class LeasedRecognizer:
    """A loaded recognizer. Both of its tasks share one model, its thread and its queue."""

    model: Recognizer
    recognition: Batcher[RecognitionItem, Hypothesis]
    detection: Batcher[DetectionItem, LanguageGuesses]


@contextmanager
def lease_recognizer(store: ModelStore, key: ModelKey, wait: Wait) -> Iterator[LeasedRecognizer]:
    with store.lease(key, wait) as loaded:
        recognition = cast("Batcher[RecognitionItem, Hypothesis]", loaded)
        detection = cast("Batcher[DetectionItem, LanguageGuesses]", loaded)
        yield LeasedRecognizer(cast("Recognizer", recognition.model), recognition, detection)


@contextmanager
def lease_detector(store: ModelStore, key: ModelKey, wait: Wait) -> Iterator[LeasedDetector]:
    with store.lease(key, wait) as loaded:
        batcher = cast("Batcher[WindowBlock, WindowScores]", loaded)
        yield Leased(cast("VoiceActivityDetector", batcher.model), batcher)


@contextmanager
def lease_aligner(store: ModelStore, key: ModelKey, wait: Wait) -> Iterator[LeasedAligner]:
    with store.lease(key, wait) as loaded:
        batcher = cast("Batcher[AlignmentItem, Aligned]", loaded)
        yield Leased(batcher.model, batcher)


@contextmanager
def lease_diarizer(store: ModelStore, key: ModelKey, wait: Wait) -> Iterator[LeasedDiarizer]:
    with store.lease(key, wait) as loaded:
        batcher = cast("Batcher[WindowBlock, WindowSpeakers]", loaded)
        yield Leased(cast("Diarizer", batcher.model), batcher)
